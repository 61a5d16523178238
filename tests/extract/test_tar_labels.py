"""Labels of tars: what .cls and .json may hold, how classes are numbered, and what the revision covers."""

from pathlib import Path
from typing import Any

import pytest
from test_sources_tar import png, tar

from extract.sources import open_source
from extract.sources.naming import tar_safe_key
from shards.errors import BadInput


def test_tar_keys_and_labels_are_webdatasets(tmp_path: Path) -> None:
    import webdataset

    members = [
        *(("./a b/0.png", png(0)), ("./a b/0.cls", b"2")),
        *(("1.PNG", png(1)), ("1.json", b'{"label": 1}'), ("1.seg.png", b"not looked at")),
        *(("__meta__.json__", b"{}"), ("._2.png", b"left out"), ("2.webp", png(2)), ("2.json", b'{"caption": "cat"}')),
        *(("3.jpg", png(3)), ("3.cls", b"-1"), ("3.json", b'{"label": 1}')),
    ]
    path = tar(tmp_path / "0.tar", members)
    source = open_source(f"wds:{path}", "train")
    theirs = [sample["__key__"] for sample in webdataset.WebDataset(str(path), shardshuffle=False)]
    assert list(source.keys) == [tar_safe_key(key) for key in theirs] == ["%2E/a%20b/0", "1", "2", "3"]
    assert [source.read(index).label for index in range(4)] == [2, 1, None, None]
    assert source.class_names == ("0", "1", "2")
    flag = f"--data wds:{path}"
    assert source.notes == (f"{flag}: 2 of 4 samples have no label", f"{flag}: left out 1 hidden or system name (._*)")


@pytest.mark.parametrize(
    ("ending", "stored", "classes", "labels", "note"),
    [
        ("json", ['{"label": "1"}', '{"label": "0"}'], ("0", "1"), [1, 0], "labels are numbers written as text"),
        ("json", ['{"label": "dog"}', '{"label": "cat"}'], ("cat", "dog"), [1, 0], "labels are names: 2 classes"),
        ("json", ['{"label": true}', '{"label": false}'], ("false", "true"), [1, 0], "labels are names: 2 classes"),
        ("json", ['{"label": 1.0}', '{"label": 0}'], ("0", "1"), [1, 0], None),
        ("json", ['{"label": [1]}', '{"label": 0.5}'], None, [None, None], "2 labels of types that are no class"),
        ("json", ['{"label": 0}', '{"label": null}'], ("0",), [0, None], "1 of 2 samples have no label"),
        ("cls", ["dog\n", "cat"], ("cat", "dog"), [1, 0], "labels are names: 2 classes"),
    ],
)
def test_labels_of_other_types(
    tmp_path: Path, ending: str, stored: list[str], classes: Any, labels: list[int | None], note: str | None
) -> None:
    members = [
        member
        for row, text in enumerate(stored)
        for member in ((f"{row}.png", png()), (f"{row}.{ending}", text.encode()))
    ]
    source = open_source(f"wds:{tar(tmp_path / '0.tar', members)}", "train")
    assert source.class_names == classes
    assert [source.read(index).label for index in range(2)] == labels
    assert [note in each for each in source.notes] == [True] if note else source.notes == ()


def test_names_are_numbered_by_the_train_split(tmp_path: Path) -> None:
    """So that a validation split that lacks a class numbers the others alike; a class of its own is refused."""
    for split, animals in (("train", "bee ant cow"), ("test", "cow")):
        members = [((f"{row}.png", png()), (f"{row}.cls", name.encode())) for row, name in enumerate(animals.split())]
        tar(tmp_path / f"{split}-0.tar", [member for pair in members for member in pair])
    train, test = (open_source(f"wds:{tmp_path}", split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("ant", "bee", "cow")
    assert [train.read(index).label for index in range(3)] == [1, 0, 2] and test.read(0).label == 2
    tar(tmp_path / "train-0.tar", [("0.png", png()), ("0.cls", b"ape"), ("1.png", png()), ("1.cls", b"cow")])
    shorter = open_source(f"wds:{tmp_path}", "test")
    assert shorter.read(0).label == 1 and shorter.revision != test.revision
    tar(tmp_path / "test-1.tar", [("dog.png", png()), ("dog.cls", b"dog")])
    with pytest.raises(BadInput, match="class 'dog' is in no sample of the train split"):
        open_source(f"wds:{tmp_path}", "test")


def test_label_changes_the_revision(tmp_path: Path) -> None:
    revisions = set()
    for label in (b"1", b"2"):
        path = tar(tmp_path / "0.tar", [("0.png", png()), ("0.cls", label)])
        revisions.add(open_source(f"wds:{path}", "train").revision)
    assert len(revisions) == 2
