"""Tables with a row a caption: the rows of one image are one sample, which the teacher sees once."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from caches import command, extract
from test_sources_pairs import _own_datasets_cache, pairs, png  # noqa: F401

from extract.sources import open_source
from shards.errors import BadInput

CAPTIONS = ["a red apple", "a dog", "an apple", " ", "fruit", "a cat"]
NUMBERS = [7, 8, 7, 8, 7, 9]
TOGETHER = [(0, ("a red apple", "an apple", "fruit")), (1, ("a dog",)), (2, ("a cat",))]


def table(folder: Path, **columns: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(number - 7), "path": f"{number}.png"} for number in NUMBERS]
    columns = {"image": images, "caption": CAPTIONS, "cocoid": NUMBERS} | columns
    pq.write_table(pa.table(columns), folder / "train.parquet", row_group_size=2)
    return folder


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_rows_of_one_number_are_one_image(scheme: str, kind: str, tmp_path: Path) -> None:
    values = {"cocoid": [str(number) for number in NUMBERS]} if kind == "texts" else {}
    folder = table(tmp_path / "set", **values, label=[3, 4, 3, 4, 3, 5])
    source = open_source(f"{scheme}:{folder}:group=cocoid", "train")
    assert pairs(source) == TOGETHER and list(source.keys) == ["7", "8", "9"]
    assert [source.read(index).label for index in range(3)] == [3, 4, 5] and source.most_texts == 3
    assert any("6 rows show 3 images" in note for note in source.notes)


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
def test_names_that_come_up_again_are_said_and_not_trusted(scheme: str, tmp_path: Path) -> None:
    """`datasets` stores the last part of a path alone: rows of one name may show different images."""
    source = open_source(f"{scheme}:{table(tmp_path / 'set')}", "train")
    assert len(source.keys) == 6
    assert any("3 rows repeat the name of an image" in note and "group=COLUMN" in note for note in source.notes)


def test_rows_of_one_file_are_one_image(tmp_path: Path) -> None:
    for number in (7, 8, 9):
        (tmp_path / f"{number}.png").write_bytes(png(number - 7))
    table(tmp_path, image=[f"{number}.png" for number in NUMBERS])
    source = open_source(f"parquet:{tmp_path}", "train")
    assert pairs(source) == TOGETHER and list(source.keys) == ["7", "8", "9"]


def test_a_row_without_a_number_is_alone_and_an_image_that_lacks_is_another_rows(tmp_path: Path) -> None:
    images = [
        None,
        {"bytes": png(1), "path": ""},
        {"bytes": png(2), "path": ""},
        None,
        None,
        {"bytes": png(3), "path": ""},
    ]
    folder = table(tmp_path / "set", image=images, cocoid=[7, None, 7, 8, 8, None])
    source = open_source(f"parquet:{folder}:group=cocoid", "train")
    assert len(source.keys) == 4 and source.unreadable == (2,)
    first = source.read(0)
    assert first.image is not None and first.image.getpixel((0, 0)) == 2
    assert first.texts == ("a red apple", "an apple")
    with pytest.raises(BadInput, match="holds no image"):
        source.read(2)


def test_the_teacher_sees_an_image_once(tmp_path: Path) -> None:
    folder = table(tmp_path / "set")
    flags = ("--data", f"parquet:{folder}:group=cocoid", "--view", "pair:size=16", "--out", tmp_path / "cache")
    assert "3 samples x 1 views" in extract("--teacher", "none", *flags, "--devices", "cpu").out


@pytest.mark.parametrize(("spec", "word"), [("group=photo", "no column 'photo'"), ("group=image", "group= names")])
def test_a_column_that_tells_nothing(spec: str, word: str, tmp_path: Path) -> None:
    flags = ("--teacher", "none", "--out", tmp_path / "cache")
    command("extract", "--data", f"parquet:{table(tmp_path / 'set')}:{spec}", *flags).refuses(word)
