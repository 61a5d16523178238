"""Sources of pairs: an image and all its captions, in the order in which they are stored, wherever these lie."""

import io
import json
import os
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from caches import command, contents, extract, viewset_of
from PIL import Image

from extract.config import ExtractConfig
from extract.plan_views import plan_views, stored_views
from extract.same_source import check_sample, recorded_digests
from extract.sources import Source, open_source
from shards.errors import BadInput, IdentityMismatch

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


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as opened:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def test_captions_of_tars_are_the_lines_of_the_texts(tmp_path: Path) -> None:
    first = [
        ("0.png", png(0)),
        ("0.txt", b"a red apple\n"),
        ("0.cls", b"1"),
        ("1.png", png(1)),
        ("1.txt", b"a\r\n \nb"),
    ]
    tar(tmp_path / "set" / "0.tar", first)
    tar(tmp_path / "set" / "1.tar", [("2.txt", "ein Käfer".encode()), ("2.png", png(2)), ("2.json", b'{"label": 0}')])
    source = open_source(f"wds:{tmp_path / 'set'}", "train")
    assert source.has == PAIR and pairs(source) == [(0, ("a red apple",)), (1, ("a", "b")), (2, ("ein Käfer",))]
    assert [source.read(index).label for index in range(3)] == [1, None, 0]
    flag = f"--data wds:{tmp_path / 'set'}: .txt:"
    assert source.notes[-2:] == (
        f"{flag} 1 text of several lines, each a caption",
        f"{flag} 1 empty caption left out",
    )
    tar(tmp_path / "set" / "0.tar", [*first[:1], ("0.txt", b"a bad apple\n"), *first[2:]])
    changed = open_source(f"wds:{tmp_path / 'set'}", "train")
    assert changed.revision != source.revision and changed.only(IMAGE).revision == source.only(IMAGE).revision


@pytest.mark.parametrize(("field", "texts"), [("caption", ("a",)), ("all", ("a", "c")), ("", ())])
def test_captions_of_tars_in_a_field_of_json(tmp_path: Path, field: str, texts: tuple[str, ...]) -> None:
    row = json.dumps({"caption": "a", "all": ["a", "", "c"], "number": 3}).encode()
    path = tar(tmp_path / "0.tar", [("0.png", png(0)), ("0.txt", b"b"), ("0.json", row)])
    source = open_source(f"wds:{path}:captions={field}", "train")
    assert source.read(0).texts == texts and source.has == (PAIR if texts else {"image"})
    for absent in ("number", "other"):
        with pytest.raises(BadInput, match=r"\.json: no image has a caption"):
            open_source(f"wds:{path}:captions={absent}", "train")
    with pytest.raises(BadInput, match=r"image= is no column's role: write --data wds:\S+\[:captions=FIELD\]"):
        open_source(f"wds:{path}:image=png", "train")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.txt", b"lost")], "'1' of 0.tar must have one image, but has txt"),
        ([("1.png", png())], "sample 1 has no caption that can be read"),
        ([("1.png", png()), ("1.txt", b" \n")], "sample 1 has no caption that can be read"),
        ([("1.png", png()), ("1.txt", "\u200b\u0301 \x07".encode())], "sample 1 has no caption that can be read"),
        ([("1.png", png()), ("1.txt", b"a\xff")], "read: 1.txt of 0.tar: byte 1 (0xff) is not UTF-8: convert it"),
        (
            [("1.png", png()), ("1.txt", b"x" * 2_000_000)],
            "read: 1.txt of 0.tar: has 2000000 bytes, a label or captions have at most",
        ),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_half_a_pair_keeps_its_place(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str, place: int
) -> None:
    pair = [("0.png", png(7)), ("0.txt", b"seven")]
    source = open_source(f"wds:{tar(tmp_path / '0.tar', [*members, *pair] if place else [*pair, *members])}", "train")
    row = list(source.keys).index("1")
    assert (source.has, source.unreadable, source.read(1 - row).texts) == (PAIR, (row,), ("seven",))
    with pytest.raises(BadInput, match=re.escape(message)):
        source.read(row)
    assert any("1.txt of 0.tar" in note for note in source.notes) == ("1.txt of 0.tar" in message)


def test_captions_that_are_not_utf_8_are_told_by_name_and_skipped_by_count(tmp_path: Path) -> None:
    members = [("0.png", png(0)), ("0.txt", b"a"), ("1.png", png(1)), ("1.txt", b"caf\xe9"), ("2.png", png(2))]
    path = tar(tmp_path / "0.tar", [*members, ("2.txt", b"\xff")])
    flags = ("--teacher", "none", "--data", f"wds:{path}", "--view", "pair:size=8", "--out", tmp_path / "cache")
    command("extract", *flags).refuses("sample 1 has", "1.txt of 0.tar: byte 3 (0xe9) is not UTF-8", "--on_error skip")
    out = extract(*flags, "--on_error", "skip").out
    assert "the captions of 2 samples cannot be read, the first is 1.txt of 0.tar: byte 3 (0xe9) is not UTF-8" in out
    assert json.loads((viewset_of(tmp_path / "cache") / "viewset.json").read_bytes())["skipped"] == ["1", "2"]
    alone = open_source(f"wds:{tar(tmp_path / '1.tar', members[2:4])}", "train")
    assert alone.has == IMAGE and "1.txt of 1.tar: byte 3" in alone.notes[-2]
    assert alone.notes[-1].endswith(".txt: no image has a caption")


def test_images_of_pairs_are_extracted_and_grow_whatever_becomes_of_the_captions(tmp_path: Path) -> None:
    members = [("0.png", png(0)), ("0.txt", b"a"), ("1.png", png(1)), ("1.txt", b"b"), ("2.png", png(2))]
    path = tar(tmp_path / "0.tar", members)
    flags = ("--teacher", "none", "--data", f"wds:{path}", "--view", "crop:size=8", "--out", tmp_path / "cache")
    assert "no caption" not in extract(*flags).out
    before = {
        name: json.loads(data) for name, data in contents(tmp_path / "cache").items() if name.endswith("plan.json")
    }
    (plan,) = before.values()
    assert plan["identity"]["revision"] == open_source(f"wds:{path}", "train").only(IMAGE).revision
    tar(path, [(name, data if name.endswith("png") else b"c") for name, data in members])
    assert "3 views made" in extract(*flags, "--views", "2").out


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


def test_pairs_are_extracted_with_all_captions_and_half_a_pair_is_skipped_and_listed(tmp_path: Path) -> None:
    members = [("0.png", png(0)), ("0.txt", b"a\nb"), ("1.png", png(1)), ("2.png", png(2)), ("2.txt", b"c")]
    path = tar(tmp_path / "0.tar", members)
    flags = ("--teacher", "none", "--data", f"wds:{path}", "--view", "pair:size=8", "--out", tmp_path / "cache")
    lacking = "sample 1 has no caption that can be read: write one in UTF-8, or remove it"
    command("extract", *flags).refuses(lacking, "--on_error skip")
    assert "1 of 3 samples have no caption, the first is 1" in extract(*flags, "--on_error", "skip").out
    manifest = json.loads((viewset_of(tmp_path / "cache") / "viewset.json").read_bytes())
    assert (manifest["skipped"], manifest["identity"]["captions"]) == (["1"], 2)
    assert manifest["identity"]["augment"]["scale"] == [0.9, 1.0]
    tar(path, [*members[:1], ("0.txt", b"a\nd"), *members[2:]])
    command("extract", *flags, "--views", "2", "--on_error", "skip").refuses("is another view set", "revision")


def test_a_caption_that_changes_under_one_revision_is_noticed(tmp_path: Path) -> None:
    path = tar(tmp_path / "0.tar", [("0.png", png()), ("0.txt", b"a")])
    extract("--teacher", "none", "--data", f"wds:{path}", "--view", "pair:size=8", "--out", tmp_path / "cache")
    job = plan_views(stored_views(ExtractConfig(teacher="none", out=str(tmp_path / "cache"))), None)
    assert job.source is not None
    sample, (recorded,) = job.source.read(0), recorded_digests(job, 0)
    check_sample(job, sample, recorded)
    with pytest.raises(IdentityMismatch, match="sample 0 is another image, caption or label"):
        check_sample(job, replace(sample, texts=("b",)), recorded)
