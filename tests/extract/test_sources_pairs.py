"""Sources of pairs: an image and all its captions, in the order in which they are stored, wherever these lie."""

import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from extract.sources import Source, open_source
from shards.errors import BadInput

PAIR = {"image", "texts"}
IMAGE = frozenset({"image"})


def png(grey: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2), grey).save(stream, "PNG")
    return stream.getvalue()


def pairs(source: Source) -> list[tuple[int, tuple[str, ...]]]:
    """The grey of each sample's image, and its captions."""
    samples = [source.read(index) for index in range(len(source.keys))]
    return [(sample.image.getpixel((0, 0)), sample.texts) for sample in samples]


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def table(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    num_rows = len(next(iter(columns.values())))
    images = [{"bytes": png(grey), "path": f"{grey}.png"} for grey in range(num_rows)]
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=2)
    return path


SEVERAL = [["a red apple", "an apple"], ["a dog", " "], [None, "a cat "]]
ONE = ["a red apple", " a dog\n", "a cat"]


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
@pytest.mark.parametrize("column", ["caption", "sentences_raw", "TEXT"])
@pytest.mark.parametrize(
    "stored", [ONE, SEVERAL, pa.array(ONE).dictionary_encode()], ids=["one", "several", "category"]
)
def test_captions_of_a_table(scheme: str, column: str, stored: Any, tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet", **{column: stored}, label=[1, 0, 1])
    source = open_source(f"{scheme}:{tmp_path / 'set'}", "train")
    texts = (
        [("a red apple", "an apple"), ("a dog",), ("a cat",)]
        if stored is SEVERAL
        else [(text.strip(),) for text in ONE]
    )
    assert source.has == PAIR and pairs(source) == list(enumerate(texts))
    assert [source.read(index).label for index in range(3)] == [1, 0, 1]
    said = [note for note in source.notes if "caption" in note]
    assert [note.endswith(f"column {column}: 1 empty caption left out") for note in said] == [True] * (
        stored is SEVERAL
    )


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
def test_a_column_of_captions_is_chosen_where_several_fit(scheme: str, tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet", caption=ONE, alt_text=SEVERAL, other=["x", "y", "z"])
    data = f"{scheme}:{tmp_path / 'set'}"
    where = f"captions may be any of caption, alt_text: choose one, as in --data {data}:captions=caption "
    with pytest.raises(BadInput, match=rf"{where}\(captions= for none\)$"):
        open_source(data, "train")
    by_column = {name: open_source(f"{data}:captions={name}", "train") for name in ("caption", "alt_text", "other", "")}
    assert {name: source.read(0).texts for name, source in by_column.items()} == {
        "caption": ("a red apple",),
        "alt_text": ("a red apple", "an apple"),
        "other": ("x",),
        "": (),
    }
    assert by_column[""].has == {"image"} and len({source.revision for source in by_column.values()}) == 4
    # whoever reads no captions has one source, whichever are chosen
    assert {source.only(IMAGE).revision for source in by_column.values()} == {by_column[""].revision}
    for spec, message in {
        "captions=image": "column image holds (dict|Image), no captions",
        "captions=nothing": "no column 'nothing' for captions=",
        "text=caption,captions=other": "samples are images or texts",
    }.items():
        with pytest.raises(BadInput, match=message):
            open_source(f"{data}:{spec}", "train")


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
def test_a_pair_without_its_caption_is_named_and_an_image_all_the_same(scheme: str, tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet", caption=["a", None, "  ", "d"])
    source = open_source(f"{scheme}:{tmp_path / 'set'}", "train")
    assert source.unreadable == (1, 2) and source.read(3).texts == ("d",)
    assert source.notes[-1].endswith("column caption: 2 of 4 samples have no caption, the first is 1")
    with pytest.raises(BadInput, match="sample 1 has no caption that can be read: write one in UTF-8, or remove it"):
        source.read(1)
    images = source.only(IMAGE)
    assert (images.has, images.unreadable, images.read(1).texts, images.read(3).texts) == (IMAGE, (), (), ())
    assert not any("caption" in note for note in images.notes)
    few = open_source(f"{scheme}:{tmp_path / 'set'}", "train", limit=2)
    assert (few.unreadable, few.revision) == ((1,), source.revision)


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
def test_a_table_without_one_caption_holds_images_unless_it_was_asked_for_them(scheme: str, tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet", caption=pa.array([None, " "], pa.string()))
    data = f"{scheme}:{tmp_path / 'set'}"
    assert open_source(data, "train").has == {"image"}
    with pytest.raises(BadInput, match="column caption: no image has a caption"):
        open_source(f"{data}:captions=caption", "train")


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
def test_changed_captions_are_another_source_of_the_same_images(scheme: str, tmp_path: Path) -> None:
    sources = []
    for caption in ("a cat", "a dog"):
        table(tmp_path / caption / "set" / "train.parquet", caption=[caption, "x"])
        sources.append(open_source(f"{scheme}:{tmp_path / caption / 'set'}", "train"))
    assert sources[0].revision != sources[1].revision


@pytest.mark.acceptance
@pytest.mark.skipif("TEACHER_SHARDS_DATA" not in os.environ, reason="TEACHER_SHARDS_DATA names no folder of real data")
def test_real_pairs() -> None:
    emoji = Path(os.environ["TEACHER_SHARDS_DATA"]) / "emoji"
    train, test = (open_source(f"wds:{emoji}", split) for split in ("train", "test"))
    assert (train.has, len(train.keys), len(test.keys), train.unreadable) == (PAIR, 3_704, 1_852, ())
    # the same concepts, drawn in other styles
    captions = [{source.read(index).texts for index in range(len(source.keys))} for source in (train, test)]
    assert captions[0] == captions[1] and len(captions[0]) > 1_800
    by_name = open_source(f"wds:{emoji}:captions=name", "test")
    assert [by_name.read(row).texts for row in (0, 99)] == [test.read(row).texts for row in (0, 99)]
