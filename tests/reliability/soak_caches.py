"""Soak caches: sets of every codec and storage, and their rows as other libraries read them from the same files."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from caches import DIGITS, extract, viewset_of, write_teacher
from PIL import Image
from texts import write_corpus, write_encoder

from shards.layout import tar_path
from shards.reader import TargetSet, ViewSet
from shards.remote import mirrored
from shards.storage import arrays, rendered, tars
from shards.transfer import push
from shards.views.rendered import of_row, pixels_of
from shards.zarrs import ArraySpec
from tests.extract.test_data2vec2_writer import write_checkpoint

Rows = dict[str, np.ndarray]
Span = tuple[Path, int, int]
"""A file, and the bytes from an offset on that some row is read from."""
MOST_VIEWS, MOST_TARGETS = 16, 512
"""Rows that are read at a time: views are decoded, each for itself."""


@dataclass
class Stored:
    """A set, its reader, and every row that it should give."""

    name: str
    num_samples: int
    read: Callable[[int, np.ndarray], Rows]
    held: list[Rows]
    """Of each view."""
    spans: Callable[[int, int], list[Span]]
    """What a view of a sample is read from; nothing where a flip may stay unnoticed, as the row is kept elsewhere."""
    most: int = MOST_TARGETS


def write_caches(root: Path) -> list[Stored]:
    """All sets: of each codec, and of each storage, in a folder and, of the images, in a bucket."""
    size = (*DIGITS, "--limit", "300", "--shard_size", "64", "--devices", "cpu", "--views", "2")
    teacher, network = write_teacher(root / "teacher"), write_checkpoint(root / "tiny.pt")
    pixels, dense, crops, texts = (root / name for name in ("pixels", "dense", "crops", "texts"))
    for codec in ("float32", "float16", "topk:3", "sample:4", "int8", "int4"):
        target = "pooled" if codec.startswith("int") else "logits"
        flags = ("--view", "size=16,format=png", "--target", target, "--codec", codec)
        extract("--teacher", f"run:{teacher}", "--out", pixels, *size, *flags)
    for more in (("int8",), ("int8", "--keep_tokens", "4"), ("pq:4,centroids=16",), ("rq:4,centroids=16",)):
        flags = ("--view", "format=png", "--target", "layer_mean", "--codec", *more)
        extract("--teacher", "data2vec2", "--weights", network, "--out", dense, *size, *flags)
    extract("--teacher", "none", "--out", crops, *size, "--view", "crop:size=16,store=source,source_size=32")
    encoder, corpus = write_encoder(root / "encoder"), write_corpus(root / "lines", 300)
    flags = ("--data", f"text:{corpus}", "--view", "blocks:size=12,pack=none,mask=0.2", "--views", "2")
    extract(
        "--teacher",
        f"hf:{encoder}",
        "--out",
        texts,
        *flags,
        "--shard_size",
        "64",
        "--target",
        "mlm_logits",
        "--codec",
        "sample:3",
    )
    url = f"file://{root / 'bucket'}"
    push(str(pixels), url)
    found = [each for cache in (pixels, dense, crops, texts) for each in stored_in(viewset_of(cache))]
    there = viewset_of(mirrored(url))
    return found + [bucketed(each, there) for each in stored_in(viewset_of(pixels))]


def stored_in(folder: Path) -> list[Stored]:
    """The view set of `folder` and its target sets."""
    found = [_views(ViewSet(folder))]
    for path in sorted((folder / "targets").glob("*")):
        targets = TargetSet(path)
        held = [_of_zarr(path, targets.arrays, view) for view in range(targets.num_views)]
        spans = partial(_array_spans, path, targets.arrays)
        found.append(Stored(path.name, targets.num_samples, targets.read, held, spans))
    return found


def bucketed(stored: Stored, there: Path) -> Stored:
    """The same rows, fetched from a bucket through the mirror in `there`, which keeps them."""
    viewset = stored.name == there.name
    read = partial(_rows, ViewSet(there)) if viewset else TargetSet(there / "targets" / stored.name).read
    return Stored(f"{stored.name} in a bucket", stored.num_samples, read, stored.held, lambda *_: [], MOST_VIEWS)


def _rows(viewset: ViewSet, view: int, samples: np.ndarray) -> Rows:
    return viewset.rows(view, samples.tolist())


def _views(viewset: ViewSet) -> Stored:
    of_view: dict[type, tuple[Callable[..., Rows], Callable[..., list[Span]]]] = {
        tars.Storage: (_of_tars, _tar_spans),
        arrays.Storage: (_of_arrays, _field_spans),
        rendered.Storage: (_of_crops, _crop_spans),
    }
    held, spans = of_view[type(viewset.storage)]
    rows = [held(viewset, view) for view in range(viewset.num_views)]
    name, count = viewset.folder.name, len(viewset.plan.keys)
    return Stored(name, count, partial(_rows, viewset), rows, partial(spans, viewset), MOST_VIEWS)


def _of_zarr(folder: Path, specs: dict[str, ArraySpec], view: int) -> Rows:
    group = zarr.open_group(str(folder), mode="r")
    return {name: np.asarray(group[name][view]) for name in specs}  # type: ignore[index]


def _members(viewset: ViewSet, view: int, ending: str) -> list[bytes]:
    """The members of a view in the order of the plan, as Python's tarfile finds them by name."""
    found: dict[str, bytes] = {}
    for path in sorted((viewset.folder / "views").glob(f"v{view:02d}-*.tar")):
        with tarfile.open(path) as tar:
            files = {each.name: tar.extractfile(each) for each in tar}
            found |= {name: file.read() for name, file in files.items() if file is not None}
    return [found[f"{key}.{ending}"] for key in viewset.plan.keys]


def _of_tars(viewset: ViewSet, view: int) -> Rows:
    images = [np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in _members(viewset, view, "png")]
    return {"pixels": np.stack(images)}


def _of_arrays(viewset: ViewSet, view: int) -> Rows:
    assert isinstance(viewset.storage, arrays.Storage)
    found = _of_zarr(viewset.folder, viewset.storage.arrays.specs, view)
    return {name: rows for name, rows in found.items() if name in viewset.codec.fields}


def _of_crops(viewset: ViewSet, view: int) -> Rows:
    """By Pillow alone, but for the JPEG's own decoder."""
    assert isinstance(viewset.storage, rendered.Storage)
    images = []
    crops = _of_zarr(viewset.folder, viewset.storage.arrays.specs, view)["crops"]
    for row, content in zip(crops, _members(viewset, 0, "jpg"), strict=True):
        (left, top, width, height), flip, _ = of_row(row)
        image = Image.fromarray(pixels_of(content)).crop((left, top, left + width, top + height))
        shown = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))
        images.append(shown[:, ::-1] if flip else shown)
    return {"pixels": np.stack(images)}


def _array_spans(folder: Path, specs: dict[str, ArraySpec], view: int, sample: int) -> list[Span]:
    found = []
    for spec in specs.values():
        shard, row = divmod(sample, spec.shard_size)
        found.append((folder / spec.shard_path(view, shard), spec.row_offset(row), spec.row_bytes))
    return found


def _field_spans(viewset: ViewSet, view: int, sample: int) -> list[Span]:
    assert isinstance(viewset.storage, arrays.Storage)
    specs = {name: each for name, each in viewset.storage.arrays.specs.items() if name in viewset.codec.fields}
    return _array_spans(viewset.folder, specs, view, sample)


def _tar_spans(viewset: ViewSet, view: int, sample: int) -> list[Span]:
    shard, row = divmod(sample, viewset.plan.shard_size)
    members = viewset.checked.commit(view, shard).members
    assert members is not None
    endings: Any = viewset.codec
    return [(viewset.folder / tar_path(view, shard), *members[ending][row]) for ending in endings.endings]


def _crop_spans(viewset: ViewSet, view: int, sample: int) -> list[Span]:
    assert isinstance(viewset.storage, rendered.Storage)
    crops = _array_spans(viewset.folder, {"crops": viewset.storage.spec}, view, sample)
    return crops + _tar_spans(viewset, 0, sample)
