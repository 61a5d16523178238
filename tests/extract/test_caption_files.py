"""A folder of images with a file of captions: every form that people have, and files that serve nothing."""

from pathlib import Path

import pytest
from test_sources_captions import IMAGE, PAIR, pairs, touch

from extract.sources import open_source
from shards.errors import BadInput

FORMS = {
    "captions.txt": ["image,caption", 'a.png,"one, and"', "a.png,two", "sub/b.png,three"],
    "captions.csv": ["file_name,text", 'a.png,"one, and"', "a.png,two", "b.png,three"],
    "captions.tsv": ["file\tcaption", "a.png\tone, and", "a.png\ttwo", "b.png\tthree"],
    "results.csv": ["image_name| comment_number| comment", "a.png| 0|one, and", "a.png| 1|two", "b.png| 0| three"],
    "results_20130124.token": ["a.png#0\tone, and", "a.png#1\ttwo", "b.png#0\tthree"],
    "captions.jsonl": [
        '{"image": "a.png", "captions": ["one, and", "two"]}',
        "",
        '{"image": "b.png", "captions": "three"}',
    ],
    "metadata.jsonl": [
        '{"file_name": "a.png", "text": ["one, and", "two"]}',
        '{"file_name": "b.png", "text": "three"}',
    ],
    "metadata.csv": ["file_name,label,caption", 'a.png,0,"one, and"', "a.png,0,two", "sub/b.png,1,three"],
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("split", ["", "train"])
def test_a_folder_with_a_file_of_captions(name: str, split: str, tmp_path: Path) -> None:
    """Whatever the form, several lines of an image are its captions, in their order."""
    folder = tmp_path / split
    for row, image in enumerate(("sub/a.png", "sub/b.png")):
        touch(folder / image, row)
    (folder / name).write_text("\n".join(FORMS[name]))
    source = open_source(f"folder:{tmp_path}", "train")
    assert (source.has, source.notes) == (PAIR, ())
    assert pairs(source) == {"sub/a": (0, ("one, and", "two")), "sub/b": (1, ("three",))}
    images = open_source(f"folder:{tmp_path}:captions=", "train")
    assert (images.has, images.revision) == (IMAGE, source.only(IMAGE).revision)
    (folder / name).write_text("\n".join(FORMS[name]).replace("two", "owt"))
    assert open_source(f"folder:{tmp_path}", "train").revision != source.revision


def test_captions_of_all_splits_beside_them(tmp_path: Path) -> None:
    for row, image in enumerate(("train/a.png", "val/a.png", "val/b.png")):
        touch(tmp_path / image, row)
    (tmp_path / "captions.csv").write_text("file_name,caption\ntrain/a.png,one\nval/a.png,two\nb.png,three\n")
    assert pairs(open_source(f"folder:{tmp_path}", "train")) == {"a": (0, ("one",))}
    assert pairs(open_source(f"folder:{tmp_path}", "val")) == {"a": (1, ("two",)), "b": (2, ("three",))}
    (tmp_path / "captions.csv").write_text("file_name,caption\ntrain/a.png,one\n")
    alone = open_source(f"folder:{tmp_path}", "val")
    assert (alone.has, alone.notes) == (
        IMAGE,
        (f"--data folder:{tmp_path}: captions.csv: no image has a caption",),
    )


def test_images_of_one_name_in_two_folders_need_their_folders_in_the_file(tmp_path: Path) -> None:
    for row, image in enumerate(("x/a.png", "y/a.png", "y/b.png")):
        touch(tmp_path / image, row)
    (tmp_path / "captions.csv").write_text("file_name,caption\na.png,whose?\ny/a.png,mine\nb.png,three\nlost.png,x\n")
    source = open_source(f"folder:{tmp_path}", "train")
    assert (source.unreadable, source.read(1).texts, source.read(2).texts) == ((0,), ("mine",), ("three",))
    assert source.notes == (
        f"--data folder:{tmp_path}: captions.csv: 2 names of no image here, or of several (a.png, lost.png)",
        f"--data folder:{tmp_path}: captions.csv: 1 of 3 samples have no caption, the first is x/a",
    )
    with pytest.raises(BadInput, match="sample x/a has no caption that can be read"):
        source.read(0)


@pytest.mark.parametrize(
    ("files", "spec", "message"),
    [
        ({"captions.csv": "id,words\n0,x\n"}, "", "expected a column file_name and one of captions, found id, words"),
        ({"captions.csv": "image,caption,text\na.png,b,c\n"}, "", "found image, caption, text: rename them"),
        ({"captions.jsonl": "{"}, "", r"captions.jsonl cannot be read \(.*\): store it as UTF-8"),
        ({"captions.csv": "image,caption\na.png,\ud83d"}, "", "cannot be read .* store it as UTF-8"),
        ({}, ":captions=mine.csv", "no file mine.csv in .*: name one that is there"),
        (
            {"mine.csv": "image,caption\nz.png,other\n"},
            ":captions=mine.csv",
            "mine.csv: no image has a caption",
        ),
    ],
)
def test_a_file_of_captions_that_serves_nothing(files: dict[str, str], spec: str, message: str, tmp_path: Path) -> None:
    touch(tmp_path / "a.png", 0)
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInput, match=message):
        open_source(f"folder:{tmp_path}{spec}", "train")


def test_metadata_without_captions_and_two_files_with(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", 0)
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,3\n")
    assert open_source(f"folder:{tmp_path}", "train").has == IMAGE
    for name in ("captions.csv", "captions.txt"):
        (tmp_path / name).write_text(f"image,caption\na.png,{name}\n")
    with pytest.raises(BadInput, match=r"in any of captions.csv, captions.txt: write :captions=captions.csv"):
        open_source(f"folder:{tmp_path}", "train")
    assert pairs(open_source(f"folder:{tmp_path}:captions=captions.txt", "train")) == {"a": (0, ("captions.txt",))}
