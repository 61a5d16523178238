"""What WebDataset tars may hold, what is refused, and which files a pattern finds."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from extract.sources import open_source
from extract.sources.base import tar_safe_key
from shards.errors import BadInput


def png(grey: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2), grey).save(stream, "PNG")
    return stream.getvalue()


def tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as opened:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def test_patterns_find_the_same_files(tmp_path: Path) -> None:
    for number in range(3):
        tar(tmp_path / f"pets/train-{number}.tar", [(f"{number}.png", png())])
    tar(tmp_path / "pets/test-0.tar", [("9.png", png())])
    sources = [
        open_source(f"wds:{tmp_path}/pets{pattern}", "train")
        for pattern in (
            "",
            "/",
            "/train-{0..2}.tar",
            "/train-*.tar",
            "/*.tar",
            "/train-?.tar",
        )
    ]
    assert {(tuple(source.keys), source.revision, source.name) for source in sources} == {
        (("0", "1", "2"), sources[0].revision, "wds-pets")
    }
    for pattern, message in (
        ("train-{0..3}.tar", "train-3.tar"),
        ("train-{0.tar", "braces"),
        ("*.tgz", "no .tar file"),
    ):
        with pytest.raises(BadInput, match=message):
            open_source(f"wds:{tmp_path}/pets/{pattern}", "train")
    with pytest.raises(BadInput, match="no split 'train', only test"):
        open_source(f"wds:{tmp_path}/pets/test-0.tar", "train")


def test_tar_keys_and_labels_are_webdatasets(tmp_path: Path) -> None:
    import webdataset

    members = [
        *(("./a b/0.png", png(0)), ("./a b/0.cls", b"2")),
        *(("1.PNG", png(1)), ("1.json", b'{"label": 1}'), ("1.seg.png", b"not looked at")),
        *(("__meta__.json__", b"{}"), ("._2.png", b"left out"), ("2.webp", png(2)), ("2.json", b'{"label": "cat"}')),
        *(("3.jpg", png(3)), ("3.cls", b"-1"), ("3.json", b'{"label": 1}')),
    ]
    path = tar(tmp_path / "0.tar", members)
    source = open_source(f"wds:{path}", "train")
    theirs = [sample["__key__"] for sample in webdataset.WebDataset(str(path), shardshuffle=False)]
    assert list(source.keys) == [tar_safe_key(key) for key in theirs] == ["%2E/a%20b/0", "1", "2", "3"]
    assert [source.read(index).label for index in range(4)] == [2, 1, None, None]
    assert source.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.png", b""), ("1.png", b""), ("0.jpg", b"")], r"a.tar has key '0', as has a.tar"),
        ([("0.png", b""), ("0.png", b"")], "holds 0.png twice"),
        ([("0.png", b""), ("0.jpg", b"")], "'0' of a.tar must have one image, but has png, jpg"),
        ([("0.txt", b"")], "must have one image, but has txt"),
        ([("0.png", b""), ("0.cls", b"cat")], "0.cls of a.tar cannot be read"),
        ([("0.png", b""), ("0.json", b"[" * 100_000)], "0.json of a.tar cannot be read"),
        ([("0.png", b""), ("0.cls", b"1" * 2_000_000)], "which is no label"),
        ([("0.png", b""), ("0.cls", b"1000000000")], "more than 1000000 classes"),
        ([("readme", b"")], "holds no sample"),
    ],
)
def test_tar_refuses(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_source(f"wds:{tar(tmp_path / 'a.tar', members)}", "train")


def test_same_key_in_two_tars_is_refused(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", [("x.png", png())])
    tar(tmp_path / "1.tar", [("x.png", png())])
    with pytest.raises(BadInput, match=r"1\.tar has key 'x', as has 0\.tar"):
        open_source(f"wds:{tmp_path}", "train")


def test_every_cut_of_a_tar_and_a_damaged_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(
        tar(tmp_path / "whole", [(f"{row}.png", png(row)) for row in range(3)]).read_bytes()[: 6 * 512 + 1024]
    )
    whole = path.read_bytes()
    assert len(open_source(f"wds:{path}", "train").keys) == 3
    for size in range(0, 6 * 512 + 1, 64):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput, match=r"0\.tar"):
            open_source(f"wds:{path}", "train")
    for header in (0, 1024, 2048):
        path.write_bytes(whole[:header] + b"?" * 10 + whole[header + 10 :])
        with pytest.raises(BadInput, match=r"0\.tar"):
            open_source(f"wds:{path}", "train")


def test_label_changes_the_revision(tmp_path: Path) -> None:
    revisions = set()
    for label in (b"1", b"2"):
        path = tar(tmp_path / "0.tar", [("0.png", png()), ("0.cls", label)])
        revisions.add(open_source(f"wds:{path}", "train").revision)
    assert len(revisions) == 2
