"""The contract of a source, over the whole registry: keys, splits, labels, limit, threads, no trace of the path."""

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from extract.sources import SOURCES, Source, open_source
from shards.errors import BadInput

NUM_TRAIN = 10
NAMES = ("cat", "dog")


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def images(split: str, damaged: int | None = None) -> list[bytes]:
    """Image i of the train split is png(i); image i's label is i % 2."""
    found = [png(seed) for seed in (range(NUM_TRAIN) if split == "train" else range(100, 104))]
    if damaged is not None:
        found[damaged] = found[damaged][:60]
    return found


def write_folder(root: Path, damaged: int | None = None) -> None:
    for split in ("train", "val"):
        for row, data in enumerate(images(split, damaged)):
            path = root / split / NAMES[row % 2] / f"img {row}.0.PNG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def write_parquet(root: Path, damaged: int | None = None) -> None:
    from datasets import ClassLabel, Dataset, Features, Image, Value

    features = Features(img=Image(), label=ClassLabel(names=list(NAMES)), caption=Value("string"))
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        data = images(split, damaged)
        rows = [
            {"img": {"bytes": each, "path": f"{split}.{row}.png"}, "label": row % 2, "caption": "x"}
            for row, each in enumerate(data)
        ]
        half = len(rows) // 2
        for part, chunk in enumerate((rows[:half], rows[half:])):
            file = root / f"{split}-{part:05d}-of-00002.parquet"
            Dataset.from_list(chunk, features=features).to_parquet(str(file), batch_size=3)


def write_tars(root: Path, damaged: int | None = None) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        data = images(split, damaged)
        half = len(data) // 2
        for part, rows in enumerate((range(half), range(half, len(data)))):
            with tarfile.open(root / f"{split}-{part:05d}.tar", "w") as tar:
                for row in rows:
                    members = {"JPG" if row == 0 else "png": data[row]}
                    members |= {"json": json.dumps({"label": row % 2, "text": "x"}).encode()}
                    # .cls goes before .json
                    members |= {"cls": b"1\n", "json": b'{"label": 0}'} if row == 1 else {}
                    for ending, content in members.items():
                        info = tarfile.TarInfo(f"some dir/{row:04d}.{ending}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))


Writer = Callable[..., None]
# scheme -> (what writes its data, --data, --data_dir); {} is the folder
CASES: dict[str, tuple[Writer | None, str, str | None]] = {
    "digits": (None, "digits", None),
    "folder": (write_folder, "folder:{}", None),
    "parquet": (write_parquet, "parquet:{}", None),
    "wds": (write_tars, "wds:{}", None),
    "hf": (write_parquet, "hf:{}", None),
    "imagenet": (write_folder, "imagenet", "{}"),
    "cifar10": (write_parquet, "cifar10", "{}"),
    "cifar100": (write_parquet, "cifar100", "{}"),
}
STREAMS = ("text", "text_files", "openwebtext")
"""Of texts alone: see test_sources_text.py."""
OF_SENTENCES = ("glue", "sentences")
"""Tables of sentences or pairs: see test_sources_sentences.py."""
OF_PAIRS = ("coco", "flickr30k", "cc3m", "cc12m")
"""Of images and their captions: see test_sources_captions.py."""
WRITTEN = [scheme for scheme, case in CASES.items() if case[0]]


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets_cache"))


def write(scheme: str, folder: Path, **arguments: Any) -> None:
    writer = CASES[scheme][0]
    if writer:
        writer(folder, **arguments)


def open_case(scheme: str, folder: Path, split: str = "train", limit: int | None = None) -> Source:
    _, data, data_dir = CASES[scheme]
    return open_source(data.format(folder), split, data_dir and data_dir.format(folder), limit)


def test_every_registered_source_has_a_case() -> None:
    assert {*CASES, *STREAMS, *OF_SENTENCES, *OF_PAIRS} == set(SOURCES)


@pytest.mark.parametrize("scheme", sorted(CASES))
def test_contract(scheme: str, tmp_path: Path) -> None:
    write(scheme, tmp_path / "pets")
    source = open_case(scheme, tmp_path / "pets")
    assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", source.name)
    assert source.split == "train"
    assert len(set(source.keys)) == len(source.keys) > 1
    assert all(re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9_/%-]*", key) for key in source.keys)
    assert source.class_names is not None and len(source.class_names) >= 2
    samples = [source.read(index) for index in range(len(source.keys))]
    assert [sample.key for sample in samples] == list(source.keys)
    assert {sample.label for sample in samples} == set(range(len(source.class_names)))
    for index in (-1, len(samples)):
        with pytest.raises(IndexError):
            source.read(index)
    again = open_case(scheme, tmp_path / "pets")
    assert (again.keys, again.revision, again.name) == (source.keys, source.revision, source.name)


@pytest.mark.parametrize("scheme", WRITTEN)
def test_pixels_and_labels_are_those_written(scheme: str, tmp_path: Path) -> None:
    write(scheme, tmp_path / "pets")
    source = open_case(scheme, tmp_path / "pets")
    wanted = {Image.open(io.BytesIO(png(row))).tobytes(): row % 2 for row in range(NUM_TRAIN)}
    samples = [source.read(index) for index in range(len(source.keys))]
    assert {sample.image.tobytes(): sample.label for sample in samples} == wanted
    assert source.class_names in (NAMES, ("0", "1"))


@pytest.mark.parametrize("scheme", WRITTEN)
def test_photos_stand_upright(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6

    def turned(seed: int) -> bytes:
        stream = io.BytesIO()
        Image.open(io.BytesIO(png(seed))).save(stream, "PNG", exif=exif)
        return stream.getvalue()

    images = {split: [turned(seed) for seed in range(NUM_TRAIN)] for split in ("train", "val", "test")}
    monkeypatch.setitem(globals(), "images", lambda split, damaged: images[split])
    write(scheme, tmp_path / "pets")
    source = open_case(scheme, tmp_path / "pets")
    wanted = {Image.open(io.BytesIO(png(row))).rotate(-90, expand=True).tobytes() for row in range(NUM_TRAIN)}
    assert {source.read(index).image.tobytes() for index in range(NUM_TRAIN)} == wanted
    assert source.encoded


@pytest.mark.parametrize("scheme", WRITTEN)
def test_moving_the_data_changes_nothing_and_changing_it_does(scheme: str, tmp_path: Path) -> None:
    write(scheme, tmp_path / "here" / "pets")
    source = open_case(scheme, tmp_path / "here" / "pets")
    shutil.copytree(tmp_path / "here" / "pets", tmp_path / "there" / "pets")
    shutil.rmtree(tmp_path / "here")
    for file in (tmp_path / "there").rglob("*.*"):
        os.utime(file, (1, 1))
    moved = open_case(scheme, tmp_path / "there" / "pets")
    assert (moved.keys, moved.revision, moved.name) == (source.keys, source.revision, source.name)
    write(scheme, tmp_path / "there" / "pets", damaged=3)
    assert open_case(scheme, tmp_path / "there" / "pets").revision != source.revision


@pytest.mark.parametrize("scheme", sorted(CASES))
def test_threads_read_what_one_thread_reads(scheme: str, tmp_path: Path) -> None:
    write(scheme, tmp_path / "pets")
    source = open_case(scheme, tmp_path / "pets", limit=NUM_TRAIN)
    alone = [source.read(index).image.tobytes() for index in range(NUM_TRAIN)]
    order = np.random.default_rng(0).integers(0, NUM_TRAIN, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda index: source.read(index).image.tobytes(), order))
    assert together == [alone[index] for index in order]


@pytest.mark.parametrize("scheme", sorted(CASES))
def test_limit_takes_the_first(scheme: str, tmp_path: Path) -> None:
    write(scheme, tmp_path / "pets")
    whole = open_case(scheme, tmp_path / "pets")
    part = open_case(scheme, tmp_path / "pets", limit=3)
    assert (list(part.keys), part.revision) == (list(whole.keys[:3]), whole.revision)
    assert len(open_case(scheme, tmp_path / "pets", limit=10**6).keys) == len(whole.keys)
    with pytest.raises(IndexError):
        part.read(3)
    with pytest.raises(BadInput, match="--limit 0"):
        open_case(scheme, tmp_path / "pets", limit=0)


@pytest.mark.parametrize("scheme", sorted(CASES))
def test_validation_is_another_split_and_an_unknown_one_is_refused(scheme: str, tmp_path: Path) -> None:
    write(scheme, tmp_path / "pets")
    train = {open_case(scheme, tmp_path / "pets").read(index).image.tobytes() for index in range(NUM_TRAIN)}
    asked = open_case(scheme, tmp_path / "pets", "validation")
    assert asked.split in ("validation", "test")
    assert scheme == "digits" or asked.read(0).image.tobytes() not in train
    short = open_case(scheme, tmp_path / "pets", "val")
    assert (short.keys, short.revision, short.split) == (asked.keys, asked.revision, asked.split)
    with pytest.raises(BadInput, match="no split 'extra', only"):
        open_case(scheme, tmp_path / "pets", "extra")


@pytest.mark.parametrize("scheme", WRITTEN)
def test_an_image_that_cannot_be_decoded_is_named(scheme: str, tmp_path: Path) -> None:
    write(scheme, tmp_path / "pets", damaged=3)
    source = open_case(scheme, tmp_path / "pets")
    failed = []
    for index, key in enumerate(source.keys):
        try:
            source.read(index)
        except BadInput as error:
            assert f"sample {key} cannot be decoded (" in str(error)
            failed.append(key)
    assert len(failed) == 1 and "3" in failed[0]


@pytest.mark.parametrize("scheme", WRITTEN)
def test_a_missing_path_is_named(scheme: str, tmp_path: Path) -> None:
    if scheme == "hf":
        pytest.skip("a name that is no folder is asked of the hub (test_sources_hub.py)")
    with pytest.raises(BadInput, match="nowhere"):
        open_case(scheme, tmp_path / "nowhere")
