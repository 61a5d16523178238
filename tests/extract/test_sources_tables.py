"""Tables as people have them: which columns are meant, what labels of any type become, and images beside the table."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from caches import contents, extract
from PIL import Image

from extract.sources import Source, open_source
from extract.sources.columns import parse_columns
from shards.documents import Plan
from shards.errors import BadInput


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (3, 2, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, row_group_size: int = 2, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def structs(num: int) -> list[dict[str, Any]]:
    return [{"bytes": png(seed), "path": None} for seed in range(num)]


def seeds(source: Source) -> list[int]:
    """The seed of the image of each sample, told from its pixels."""
    known = {Image.open(io.BytesIO(png(seed))).tobytes(): seed for seed in range(20)}
    return [known[source.read(index).image.tobytes()] for index in range(len(source.keys))]


def labels(source: Source) -> list[int | None]:
    return [source.read(index).label for index in range(len(source.keys))]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("name", ["image", "jpg", "png"])
def test_images_of_plain_bytes(name: str, kind: pa.DataType, tmp_path: Path) -> None:
    images = pa.array([png(seed) for seed in range(3)], kind)
    path = write(tmp_path / "train.parquet", **{"__key__": ["a", "b", "c"], name: images, "cls": [2, 0, -1]})
    source = open_source(f"parquet:{path}", "train")
    assert (seeds(source), labels(source), source.class_names) == ([0, 1, 2], [2, 0, None], ("0", "1", "2"))
    assert list(source.keys) == ["train-000000", "train-000001", "train-000002"]
    assert source.notes == (f"--data parquet:{path}: column cls: 1 of 3 samples have no label",)


def test_images_by_paths_relative_to_the_table(tmp_path: Path) -> None:
    for seed in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{seed}.png").write_bytes(png(seed))
    paths = ["photos/2.png", "photos/0.png", "photos/1.png"]
    source = open_source(f"parquet:{write(tmp_path / 'own.parquet', file_name=paths, label=[0, 1, 0])}", "train")
    assert (seeds(source), labels(source), list(source.keys)) == ([2, 0, 1], [0, 1, 0], ["2", "0", "1"])
    (tmp_path / "photos/0.png").write_bytes(png(0) + b"more")
    changed = open_source(f"parquet:{tmp_path / 'own.parquet'}", "train")
    assert (changed.keys, changed.revision != source.revision) == (source.keys, True)


def test_rows_without_bytes_are_read_beside_the_table_or_counted(tmp_path: Path) -> None:
    images = [{"bytes": png(row) if row in (0, 4) else None, "path": f"{row}.png"} for row in range(5)]
    path = write(tmp_path / "train.parquet", image=images, label=[0, 1, 2, 3, 4])
    for seed in (1, 2):
        (tmp_path / f"{seed}.png").write_bytes(png(seed))
    source = open_source(f"parquet:{path}", "train")
    assert [source.read(index).label for index in (0, 1, 2, 4)] == [0, 1, 2, 4]
    assert source.unreadable == (3,)
    with pytest.raises(BadInput, match=r"train.parquet names \S+/3.png, which is not there: put it there$"):
        source.read(3)
    assert source.notes == (
        f"--data parquet:{path}: column image gives no image for 1 of 5 rows (there is no {tmp_path / '3.png'})",
    )
    whole = write(tmp_path / "whole" / "train.parquet", image=images[1:4], label=[0, 1, 2])
    with pytest.raises(BadInput, match=r"gives no image for any of 3 rows \(there is no .*1\.png\): put the images"):
        open_source(f"parquet:{whole}", "train")


@pytest.mark.parametrize("kind", ["struct", "bytes", "paths"])
def test_image_and_mask_are_told_apart_by_the_flag(kind: str, tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {}
    for column, first in (("image", 0), ("mask", 3)):
        columns[column] = [png(seed) for seed in range(first, first + 3)]
        if kind == "struct":
            columns[column] = [{"bytes": each} for each in columns[column]]
        if kind == "paths":
            for row, data in enumerate(columns[column]):
                (tmp_path / f"{column}{row}.png").write_bytes(data)
            columns[column] = [f"{column}{row}.png" for row in range(3)]
    data = f"parquet:{write(tmp_path / 'train.parquet', **columns)}"
    with pytest.raises(BadInput, match=f"image may be any of image, mask: choose one, as in --data {data}:image=image"):
        open_source(data, "train")
    image, mask = (open_source(f"{data}:image={column}", "train") for column in ("image", "mask"))
    assert (seeds(image), seeds(mask)) == ([0, 1, 2], [3, 4, 5])
    assert image.name == mask.name and image.revision != mask.revision  # two view sets, never one of both


def test_chosen_columns_are_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", image=structs(2), kind=["b", "a"], label=[7, 8], score=[0.5, 1.0])
    data = f"parquet:{path}"
    assert labels(open_source(f"{data}:label=kind", "train")) == [1, 0]
    assert open_source(f"{data}:label=", "train").class_names is None
    assert labels(open_source(f"{data}:image=image,label=label", "train")) == [7, 8]
    for spec, message in {
        "label=king": "no column 'king' for label=, only image, kind, label, score",
        "image=picture": "no column 'picture' for image=, only image, kind, label, score",
        "image=label": "column label holds int64, no images",
        "label=image": "column image holds dict, which is no class",
        "label=score": "column score holds 0.5, which is no class",
        "mask=image": r"mask= is no column's role: write --data parquet:\S+\[:image=COLUMN,captions=COLUMN,group=",
        "image=": "image= names no column",
    }.items():
        with pytest.raises(BadInput, match=f"--data {data}:{spec}: .*{message}"):
            open_source(f"{data}:{spec}", "train")


def test_a_cache_keeps_what_each_choice_of_columns_gave(tmp_path: Path) -> None:
    image, mask = structs(3), [{"bytes": png(seed)} for seed in range(3, 6)]
    table = write(tmp_path / "train.parquet", image=image, mask=mask, label=["b", "a", "b"])
    flags = ("--teacher", "none", "--out", tmp_path / "cache", "--image_size", "8", "--augment", "resize")
    for column in ("image", "mask"):
        extract("--data", f"parquet:{table}:image={column}", *flags)
    folders = sorted((tmp_path / "cache").glob("parquet-*-train-*"))
    plans = {Plan.read(folder).request["data"]: Plan.read(folder) for folder in folders}
    assert set(plans) == {f"parquet:{table}:image={column}" for column in ("image", "mask")}
    assert {tuple(plan.class_names or ()) for plan in plans.values()} == {("a", "b")}
    before = contents(tmp_path / "cache")
    again = extract("--data", f"parquet:{table}:image=mask", *flags)
    assert "0 views made" in again.out and contents(tmp_path / "cache") == before
    assert f"note: --data parquet:{table}:image=mask: column label: labels are names: 2 classes" in again.out


def test_columns_are_parsed_from_the_end() -> None:
    for text in ("a/b.parquet", "org/name:config", "s3://x/y", "C:/x", "day=1/a.parquet"):
        assert (parse_columns("parquet", text)[0], parse_columns("parquet", text)[1].image) == (text, None)
    path, choice = parse_columns("hf", "org/name:config:label=a:b,image=x y,z")
    assert (path, choice.label, choice.image) == ("org/name:config", "a:b", "x y,z")
    assert choice.remedy("image", "new") == "--data hf:org/name:config:image=new,label=a:b"


TYPES: dict[str, tuple[Any, list[int | None], tuple[str, ...], str]] = {
    "text": (
        ["dog", "cat", None, "dog"],
        [1, 0, None, 1],
        ("cat", "dog"),
        "column label: labels are names: 2 classes in the order of their names (cat, dog)",
    ),
    "category": (
        pa.array(["dog", "cat", "", "dog"]).dictionary_encode(),
        [1, 0, None, 1],
        ("cat", "dog"),
        "labels are names: 2 classes",
    ),
    "numbers as text": (["10", "9", "0", "-1"], [10, 9, 0, None], tuple(map(str, range(11))), "written as text"),
    "float": ([2.0, 0.0, math.nan, -1.0], [2, 0, None, None], ("0", "1", "2"), "2 of 4 samples have no label"),
    "bool": (
        [True, False, None, True],
        [1, 0, None, 1],
        ("false", "true"),
        "2 classes in the order of their names (false, true)",
    ),
    "test split": ([-1, -1, -1, -1], [None] * 4, (), "column label: no sample has a label"),
    "nothing": (pa.nulls(4), [None] * 4, (), "column label: no sample has a label"),
}


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
@pytest.mark.parametrize("kind", TYPES)
def test_labels_of_any_type_become_classes(
    kind: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    stored, expected, names, note = TYPES[kind]
    write(tmp_path / "pets" / "train.parquet", image=structs(4), label=stored)
    source = open_source(f"{scheme}:{tmp_path / 'pets'}", "train")
    assert (labels(source), source.class_names) == (expected, names or None)
    assert any(note in each for each in source.notes)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([[1], [2, 3]], "column label holds List, which is no class: write .*:label=COLUMN, or .*:label= for none"),
        ([{"a": 1}, {"a": 2}], "column label holds dict, which is no class"),
        ([0.25, 1.0], "column label holds 0.25, which is no class"),
        ([math.inf, 1.0], "column label holds inf, which is no class"),
        ([b"a", b"b"], "column label holds binary, which is no class"),
    ],
)
def test_labels_that_are_no_classes_are_refused(stored: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        open_source(f"parquet:{write(tmp_path / '0.parquet', image=structs(2), label=stored)}", "train")


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
def test_text_labels_are_numbered_by_the_train_split(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "pets" / "train.parquet", image=structs(3), label=["dog", "ant", "cat"])
    write(tmp_path / "pets" / "test.parquet", image=structs(2), label=["dog", "cat"])
    data = f"{scheme}:{tmp_path / 'pets'}"
    train, test = open_source(data, "train"), open_source(data, "test")
    assert train.class_names == test.class_names == ("ant", "cat", "dog")
    assert (labels(train), labels(test)) == ([2, 0, 1], [2, 1])
    write(tmp_path / "pets" / "test.parquet", image=structs(2), label=["dog", "eel"])
    with pytest.raises(BadInput, match="class 'eel' is in no sample of the train split"):
        open_source(data, "test")


def test_numbers_written_as_text_need_no_train_split(tmp_path: Path) -> None:
    write(tmp_path / "pets" / "train.parquet", image=structs(3), label=["0", "1", "10"])
    write(tmp_path / "pets" / "test.parquet", image=structs(3), label=["-1", "2", "10"])
    test = open_source(f"parquet:{tmp_path / 'pets'}", "test")
    assert (labels(test), test.class_names) == ([None, 2, 10], tuple(map(str, range(11))))


def test_a_table_without_labels_says_which_column_may_be_one(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", image=structs(2), kind=["a", "b"], breed=["x", "y"])
    source = open_source(f"parquet:{path}", "train")
    assert source.class_names is None and len(source.notes) == 1
    assert f"none of kind, breed is known as one (--data parquet:{path}:label=COLUMN chooses it)" in source.notes[0]
    assert open_source(f"parquet:{path}:label=", "train").notes == ()


def test_a_table_of_addresses_says_where_its_images_are(tmp_path: Path) -> None:
    path = write(tmp_path / "0.parquet", caption=["a"], url=["http://x/y.jpg"], key=["0"])
    with pytest.raises(BadInput, match=r"only caption, url, key: img2dataset keeps .* write --data wds:PATH"):
        open_source(f"parquet:{path}", "train")
