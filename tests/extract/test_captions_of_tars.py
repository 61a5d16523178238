"""Captions of tars: lines of .txt or a field of .json, half a pair, and what an extraction makes of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from caches import command, contents, extract, viewset_of
from test_sources_pairs import IMAGE, PAIR, pairs, png
from test_sources_tar import tar

from extract.config import ExtractConfig
from extract.plan_views import plan_views, stored_views
from extract.same_source import check_sample, recorded_digests
from extract.sources import open_source
from shards.errors import BadInput, IdentityMismatch


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
    with pytest.raises(IdentityMismatch, match="sample 0 is another image, text or label"):
        check_sample(job, replace(sample, texts=("b",)), recorded)
