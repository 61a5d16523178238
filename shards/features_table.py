"""Features table: one parquet file of features with keys, thumbnails, texts and labels, as embedding-atlas reads it.

A row a view of each sample, written in groups of rows, so that memory does not grow with the cache. `image` is a struct
of bytes and path, as the Image feature of `datasets` is.
"""

import json
import os
import shlex
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int

from shards.class_names import class_name
from shards.codecs.distribution import Distribution
from shards.codecs.features import Features
from shards.command.devices import share_of_cores
from shards.command.progress import Progress
from shards.commit import TEMPORARY_PREFIX, make_folder, sync_folder
from shards.decode import codec_of, read_decoded
from shards.errors import BadInput
from shards.ranges import request_threads
from shards.reader import TargetSet, ViewSet, check_pair
from shards.storage.base import Fetched
from shards.thumbnail import thumbnail
from shards.views.pair import CAPTIONS

if TYPE_CHECKING:
    import pyarrow as pa

    from shards.codecs.base import Codec

ROWS, SIDE = 1024, 112
"""Rows of a group, at most, and pixels a side of a thumbnail."""
_DECODED_BYTES = 32 << 20
"""Of rows that are decoded together; a float32 takes at most 8 times what is stored of it."""
WRITING: dict[str, Any] = {
    "compression": {"key": "zstd", "text": "zstd"},
    "use_dictionary": ["class"],
    "write_statistics": False,
}
"""Pixels and floats do not get smaller by what they would cost."""


def export_features(viewset: ViewSet, targetset: TargetSet | None, output: Path) -> tuple[int, int]:
    """`output` is a parquet file of the rows of `targetset`; returns its rows and its bytes.

    Its columns are `key`, `view`, `image` of views that are looked at, `text` of texts and of images with captions,
    `label` and `class` where there are labels, and `vector`: float32, of rows a token or a caption the mean over those
    that are content. Skipped samples are left out. BadInput for targets that are no vectors, and where the file exists.
    """
    import pyarrow.parquet as pq

    if output.exists():
        raise BadInput(f"--output {output}: exists already; give another name, or remove it")
    if targetset is None:
        raise BadInput(
            f"--output {output}: needs a target set, and {viewset.folder} has none; extract one, or give a folder"
        )
    if len(viewset.usable) == 0:
        raise BadInput(f"--output {output}: {viewset.folder} holds no sample that was not skipped")
    check_pair(viewset, targetset)
    codec, views = codec_of(targetset), min(viewset.num_views, targetset.num_views)
    first = _vectors(viewset, targetset, codec, 0, viewset.usable[:1])
    schema = _schema(viewset, first.shape[1])
    make_folder(output.parent)
    temporary = output.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{output.name}"
    count = len(viewset.usable) * views
    try:
        # opened here and not by pyarrow, whose errors do not tell the path
        with temporary.open("wb") as written:
            with (
                pq.ParquetWriter(written, schema, **WRITING) as writer,
                ThreadPoolExecutor(share_of_cores()) as pool,
                request_threads() as requests,
                Progress("export", count) as progress,
            ):
                for view, samples in _groups(viewset, views):
                    vectors = _vectors(viewset, targetset, codec, view, samples)
                    columns = _columns(viewset, view, samples, schema.names, pool, requests) | {"vector": vectors}
                    writer.write_table(_table(columns, schema), row_group_size=ROWS)
                    progress.advance(len(samples))
            written.flush()
            os.fsync(written.fileno())
        temporary.replace(output)
        sync_folder(output.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return count, output.stat().st_size


def looking(output: Path) -> str:
    """The command that shows the file (https://apple.github.io/embedding-atlas)."""
    import pyarrow.parquet as pq

    shown = [f"--{name} {name}" for name in ("image", "text") if name in pq.read_schema(output).names]
    return f"embedding-atlas {shlex.quote(str(output))} --vector vector {' '.join(shown)}"


def _groups(viewset: ViewSet, views: int) -> Iterator[tuple[int, Int[np.ndarray, " rows"]]]:
    for view in range(views):
        for start in range(0, len(viewset.usable), ROWS):
            yield view, viewset.usable[start : start + ROWS]


def _schema(viewset: ViewSet, dim: int) -> "pa.Schema":
    """The columns that these views have; an image is marked as `datasets` marks its own."""
    import pyarrow as pa

    sample = int(viewset.usable[0])
    fields = [("key", pa.string()), ("view", pa.int32())]
    is_picture = viewset.codec.picture(viewset.row(0, sample)) is not None
    if is_picture:
        fields.append(("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    if not is_picture or CAPTIONS in viewset.storage.facts(0, sample):
        fields.append(("text", pa.string()))
    if viewset.labelled:
        fields += [("label", pa.int64()), ("class", pa.string())]
    fields.append(("vector", pa.list_(pa.float32(), dim)))
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    return pa.schema(fields, {"huggingface": json.dumps(features)} if is_picture else None)


def _columns(
    viewset: ViewSet, view: int, samples: Int[np.ndarray, " rows"], names: list[str], pool: Executor, requests: Executor
) -> dict[str, Any]:
    """What stands beside the vectors of `samples`, a value a sample for each of `names`; what is far is read together.

    Views are decoded by `pool`.
    """
    numbers = samples.tolist()
    columns: dict[str, Any] = {"key": [viewset.plan.keys[sample] for sample in numbers], "view": [view] * len(numbers)}
    fetched: Fetched | None = None
    if "image" in names:
        fetched = viewset.fetch(view, numbers, "label" in names, requests)
        columns["image"] = list(pool.map(partial(_image, viewset, view, fetched), numbers))
    if "text" in names:
        columns["text"] = list(requests.map(partial(_text, viewset, view, "image" in names), numbers))
    if "label" in names:
        labels = columns["label"] = viewset.labels(view, numbers, fetched).tolist()
        columns["class"] = [class_name(viewset.class_names, label) for label in labels]
    return columns


def _image(viewset: ViewSet, view: int, fetched: Fetched | None, sample: int) -> dict[str, Any]:
    row = {name: np.empty((1, *shape), dtype) for name, (dtype, shape) in viewset.codec.fields.items()}
    viewset.read(view, [sample], row, fetched=fetched)
    picture = viewset.codec.picture({name: rows[0, ...] for name, rows in row.items()})
    assert picture is not None
    return {"bytes": thumbnail(picture, SIDE)[1], "path": None}


def _text(viewset: ViewSet, view: int, is_picture: bool, sample: int) -> str:
    """The captions of an image, a line each; of a text what it says."""
    facts = viewset.storage.facts(view, sample)
    if is_picture:
        return "\n".join(facts[CAPTIONS])
    return "\n".join(viewset.codec.caption(viewset.row(view, sample), facts, viewset.folder)[1:])


def _vectors(
    viewset: ViewSet, targetset: TargetSet, codec: "Codec", view: int, samples: Int[np.ndarray, " rows"]
) -> Float32[np.ndarray, "rows dim"]:
    """A vector a sample; BadInput for what is none."""
    parts, size = [], max(1, _DECODED_BYTES // (8 * targetset.bytes_per_sample))
    for start in range(0, len(samples), size):
        chunk = samples[start : start + size]
        decoded = read_decoded(targetset, codec, view, chunk)
        features = decoded if isinstance(decoded, Features) else Features(decoded)
        if isinstance(features.rows, Distribution):
            raise BadInput(
                f"--output: {targetset.folder.name} holds some of each sample's classes, which are no vector; name a "
                "target set of features or of all logits"
            )
        parts.append(_pooled(viewset, targetset, features, view, chunk))
    return np.concatenate(parts)


def _pooled(
    viewset: ViewSet, targetset: TargetSet, features: Features, view: int, samples: Int[np.ndarray, " rows"]
) -> Float32[np.ndarray, "rows dim"]:
    rows = features.vectors.float().numpy()
    if rows.ndim == 2:
        return rows
    places = np.arange(rows.shape[1])[None] if features.positions is None else features.positions.numpy()
    content = places < _lengths(viewset, targetset, view, samples)[:, None]
    weights = content / np.maximum(content.sum(1, keepdims=True), 1)
    return np.einsum("st,std->sd", weights.astype(np.float32), rows)


def _lengths(
    viewset: ViewSet, targetset: TargetSet, view: int, samples: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, " rows"]:
    """How many rows of each sample are content: of a teacher of captions one a caption, of texts their tokens."""
    if CAPTIONS in targetset.identity["teacher"]["preprocessing"]:
        with request_threads() as requests:
            facts = requests.map(partial(viewset.storage.facts, view), samples.tolist())
            return np.array([len(each[CAPTIONS]) for each in facts])
    if "length" in viewset.codec.fields:
        return viewset.rows(view, samples.tolist())["length"].astype(np.int64)
    return np.full(len(samples), np.iinfo(np.int64).max)


def _table(columns: dict[str, Any], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    vectors = columns.pop("vector")
    arrays = {name: pa.array(columns[name], schema.field(name).type) for name in columns}
    arrays["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)
