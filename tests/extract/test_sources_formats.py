"""What each local format accepts, names and refuses: folders and parquet files, and how splits are told."""

import io
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from extract.sources import open_source
from extract.sources.naming import tar_safe_key
from extract.sources.row_groups import RowGroups
from shards.errors import BadInput


def png(grey: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2), grey).save(stream, "PNG")
    return stream.getvalue()


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png())


def table(path: Path, columns: Mapping[str, Any], row_group_size: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=row_group_size)
    return path


def rows(num: int, paths: Sequence[str | None] | None = None) -> dict[str, Any]:
    image = [{"bytes": png(row), "path": paths[row] if paths else None} for row in range(num)]
    return {"image": image, "label": list(range(num))}


@given(st.text(min_size=1), st.text(min_size=1))
def test_keys_are_tar_safe_and_one_to_one(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9_/%-]*", tar_safe_key(one))
    assert (tar_safe_key(one) == tar_safe_key(other)) == (one == other)


def test_folder_without_splits_counts_as_train(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg", "a/x.y.JPEG", "a/deep/2.png", "a/.hidden.png", ".git/3.png", "a/notes.txt", "c/.keep")
    source = open_source(f"folder:{tmp_path}", "train")
    assert list(source.keys) == ["a/deep/2", "a/x%2Ey", "b/1"]
    assert source.class_names == ("a", "b")
    assert [source.read(index).label for index in range(3)] == [0, 0, 1]
    with pytest.raises(BadInput, match="no split 'validation', only train"):
        open_source(f"folder:{tmp_path}", "validation")


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "0.png")
    source = open_source(f"folder:{tmp_path}", "train")
    assert (list(source.keys), source.class_names, source.read(0).label) == (["0", "1"], None, None)


def test_folder_numbers_classes_by_the_train_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg", "test/1.jpg")
    assert open_source(f"folder:{tmp_path}", "validation").read(0).label == 2
    assert open_source(f"folder:{tmp_path}", "test").class_names is None
    touch(tmp_path, "val/new/1.jpg")
    with pytest.raises(BadInput, match="class 'new' has no image in the train split"):
        open_source(f"folder:{tmp_path}", "validation")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.jpg", "2.png"], "a/1.jpg is in a class folder and 2.png is in none"),
        (["train/1.jpg", "car/1.png"], "train reads as a split, but car beside it holds images too"),
        (["a/1.txt"], "no image is found"),
    ],
)
def test_folder_refuses(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(BadInput, match=message):
        open_source(f"folder:{tmp_path}", "train")


def test_folder_follows_links_but_not_broken_or_circular_ones(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "pets/a/0.jpg")
    (tmp_path / "pets/a/link.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    (tmp_path / "pets/b").symlink_to(tmp_path / "elsewhere")
    source = open_source(f"folder:{tmp_path}/pets", "train")
    assert list(source.keys) == ["a/0", "a/link", "b/1"] and source.read(2).label == 1
    (tmp_path / "pets/a/gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    source = open_source(f"folder:{tmp_path}/pets", "train")
    assert (source.keys[1], source.unreadable) == ("a/gone", (1,))
    assert source.notes == (f"--data folder:{tmp_path}/pets: 1 of 4 samples cannot be read, the first is a/gone",)
    with pytest.raises(BadInput, match=r"gone\.jpg leads nowhere"):
        source.read(1)
    (tmp_path / "pets/a/gone.jpg").unlink()
    (tmp_path / "pets/a/up").symlink_to(tmp_path / "pets")
    with pytest.raises(BadInput, match="leads back"):
        open_source(f"folder:{tmp_path}/pets", "train")


def test_the_mode_stays_as_stored(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 2)).save(tmp_path / "0.jpg")
    image = open_source(f"folder:{tmp_path}", "train").read(0).image
    assert (image.size, image.mode) == ((4, 2), "CMYK")


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    with pytest.raises(BadInput, match=r"sample 0 cannot be decoded \(Image size .* exceeds limit"):
        open_source(f"folder:{tmp_path}", "train").read(0)


def test_a_header_that_claims_pixels_which_the_file_cannot_hold(tmp_path: Path) -> None:
    """They would take 400 MB before the file ends; a picture of one colour that is as large is read."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    content = png()
    (tmp_path / "0.png").write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    Image.new("1", (4100, 4100)).save(tmp_path / "1.png", optimize=True)
    source = open_source(f"folder:{tmp_path}", "train")
    with pytest.raises(BadInput, match=r"sample 0 cannot be decoded \(10,000 x 10,000 pixels in \d+ bytes, which no"):
        source.read(0)
    assert source.read(1).image.size == (4100, 4100)


@pytest.mark.parametrize("names", [["image", "label", "label"], ["image", "image", "label"]])
def test_a_name_that_two_columns_have_is_refused(tmp_path: Path, names: list[str]) -> None:
    """The first of two labels was taken without a word."""
    values = {"image": [png()], "label": [0]}
    columns = [pa.array(values[name]) for name in names]
    pq.write_table(pa.table(columns, names=names), tmp_path / "train.parquet")
    twice = max(names, key=names.count)
    with pytest.raises(BadInput, match=f"train.parquet cannot be read .*two of its columns are called {twice}: rename"):
        open_source(f"parquet:{tmp_path}", "train")


def test_parquet_keys(tmp_path: Path) -> None:
    table(tmp_path / "own/0.parquet", rows(2, ["x/a.png", "x/b.png"]))
    table(tmp_path / "own/1.parquet", rows(1, ["x/c.d.png"]))
    assert list(open_source(f"parquet:{tmp_path}/own", "train").keys) == ["a", "b", "c%2Ed"]
    seconds: dict[str, list[str | None]] = {"same": ["y/a.png"], "none": [None], "empty": [""]}
    for case, second in seconds.items():
        table(tmp_path / case / "0.parquet", rows(2, ["x/a.png", "x/b.png"]))
        table(tmp_path / case / "more/1.parquet", rows(1, second))
        keys = open_source(f"parquet:{tmp_path}/{case}", "train").keys
        assert list(keys) == ["0-000000", "0-000001", "more/1-000000"]
    only = {"image": [{"bytes": png()}, {"bytes": png()}]}
    source = open_source(f"parquet:{table(tmp_path / 'only/part.parquet', only)}", "train")
    assert (list(source.keys), source.class_names, source.read(1).label) == (["part-000000", "part-000001"], None, None)


def test_parquet_without_types_numbers_the_classes_and_hides_negative_labels(tmp_path: Path) -> None:
    path = table(tmp_path / "0.parquet", {**rows(3), "label": [4, -1, None]})
    source = open_source(f"parquet:{path}", "train")
    assert source.class_names == ("0", "1", "2", "3", "4")
    assert [source.read(index).label for index in range(3)] == [4, None, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({**rows(1), "cls": [1]}, "label may be any of label, cls"),
        ({**rows(1), "mask": [{"bytes": b""}]}, "image may be any of image, mask"),
        ({"label": [1], "caption": ["x"]}, "no column holds images .* only label, caption"),
        ({**rows(1), "label": [10**9]}, "more than 1000000 classes"),
    ],
)
def test_parquet_refuses_columns(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_source(f"parquet:{table(tmp_path / '0.parquet', columns)}", "train")


def test_parquet_refuses_files(tmp_path: Path) -> None:
    whole = table(tmp_path / "0.parquet", rows(20))
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"cut\.parquet cannot be read as parquet"):
        open_source(f"parquet:{cut}", "train")
    table(tmp_path / "1.parquet", {**rows(1), "label": ["text"]})
    with pytest.raises(BadInput, match=r"1\.parquet and 0\.parquet differ"):
        open_source(f"parquet:{tmp_path}/[01].parquet", "train")
    nothing = table(
        tmp_path / "nothing.parquet", {"image": [{"bytes": None, "path": "x"}, {"bytes": b"", "path": "y"}]}
    )
    with pytest.raises(BadInput, match=r"nothing\.parquet names \S+/x, which is not there"):
        open_source(f"parquet:{nothing}", "train").read(0)
    with pytest.raises(BadInput, match="sample y cannot be decoded"):
        open_source(f"parquet:{nothing}", "train").read(1)


def test_parquet_damaged_anywhere_is_refused_or_read_but_never_breaks(tmp_path: Path) -> None:
    path = table(tmp_path / "0.parquet", rows(6))
    whole = path.read_bytes()
    refused = 0
    for start in range(0, len(whole), 40):
        path.write_bytes(whole[:start] + b"\xa5" * 8 + whole[start + 8 :])
        try:
            source = open_source(f"parquet:{path}", "train")
            for index in range(len(source.keys)):
                source.read(index)
        except BadInput:
            refused += 1
    assert refused > 5


def test_row_groups_forget_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "0.parquet", rows(20))
    metadata = pq.read_metadata(path)
    monkeypatch.setattr("extract.sources.row_groups._KEPT_BYTES", 3 * metadata.row_group(0).total_byte_size)
    groups = RowGroups([(path, metadata)], ["label"])
    assert [groups.row(row)[1]["label"] for row in (*range(20), *range(19, -1, -1))] == [*range(20), *range(19, -1, -1)]
    assert 1 <= len(groups._kept) <= 4
    assert groups._kept_bytes == sum(metadata.row_group(group).total_byte_size for group in groups._kept)


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (["train-0", "val-0", "test-0"], "validation", ("validation", ["val-0"])),
        (["train-0", "valid0", "validation_1"], "val", ("validation", ["valid0", "validation_1"])),
        (["train-0", "test-0"], "validation", ("test", ["test-0"])),
        (["train-0", "test-0"], "test", ("test", ["test-0"])),
        (["part-0", "part-1", "test"], "train", ("train", ["part-0", "part-1"])),
        (["data/train/0", "data/test/0"], "train", ("train", ["data/train/0"])),
        (["Training_0", "TEST_0"], "train", ("train", ["Training_0"])),
        (["Training_0", "TEST_0"], "Validation", ("test", ["TEST_0"])),
        (["TrainImages", "TestImages"], "train", ("train", ["TrainImages"])),
        (["part-0", "eval", "testset", "ValImages"], "train", ("train", ["part-0"])),
        (["train-0", "val-0"], "test", "no split 'test', only train, validation"),
        (["train-0", "other"], "train", "train-0.parquet says train and other.parquet tells no split"),
        (["train-val-0"], "train", "names two splits, train and validation"),
    ],
)
def test_files_of_a_split(tmp_path: Path, names: list[str], asked: str, found: Any) -> None:
    for name in names:
        table(tmp_path / f"{name}.parquet", rows(1))
    if isinstance(found, str):
        with pytest.raises(BadInput, match=found):
            open_source(f"parquet:{tmp_path}", asked)
    else:
        source = open_source(f"parquet:{tmp_path}", asked)
        assert (source.split, list(source.keys)) == (found[0], [f"{name}-000000" for name in found[1]])
