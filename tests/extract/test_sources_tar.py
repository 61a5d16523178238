"""What WebDataset tars may hold, what is refused, and which files a pattern finds."""

import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from caches import command, extract, viewset_of
from PIL import Image

from extract.sources import open_source
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


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [("0.png", b""), ("1.png", b""), ("0.jpg", b"")],
            "'0' of a.tar do not lie side by side: .* --sort=name",
        ),
        ([("0.png", b""), ("0.png", b"")], "holds 0.png twice"),
        (
            [("0.png", b""), ("0.cls", b"1"), ("1.png", b""), ("1.cls", b"cat")],
            "of 2 labels 1 are numbers, as 1, and others",
        ),
        ([("0.png", b""), ("0.cls", b"1000000000")], "more than 1000000 classes"),
        ([("readme", b"")], "holds no sample"),
    ],
)
def test_tar_refuses(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_source(f"wds:{tar(tmp_path / 'a.tar', members)}", "train")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.png", png()), ("1.jpg", b"")], "'1' of a.tar must have one image, but has png, jpg"),
        ([("1.txt", b"")], "'1' of a.tar must have one image, but has txt"),
        ([("1.png", png()), ("1.cls", b" ")], r"1.cls of a.tar cannot be read \(it is empty\)"),
        ([("1.png", png()), ("1.cls", b"\xff")], "1.cls of a.tar cannot be read"),
        ([("1.png", png()), ("1.json", b"[" * 100_000)], "1.json of a.tar cannot be read"),
        ([("1.png", png()), ("1.cls", b"1" * 2_000_000)], "a label or captions have at most 1048576"),
    ],
)
def test_a_sample_that_cannot_be_read_keeps_its_place(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    path = tar(tmp_path / "a.tar", [("0.png", png(7)), *members, ("2.png", png(9))])
    source = open_source(f"wds:{path}", "train")
    assert (list(source.keys), source.unreadable) == (["0", "1", "2"], (1,))
    assert any("1 of 3 samples cannot be read, the first is 1" in note for note in source.notes)
    assert [source.read(index).image.getpixel((0, 0)) for index in (0, 2)] == [7, 9]
    with pytest.raises(BadInput, match=message):
        source.read(1)
    assert open_source(f"wds:{path}", "train", limit=1).unreadable == ()


def test_a_tar_with_a_sample_that_lacks_its_image_is_refused_or_extracted_without_it(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("0.png", png()), ("1.txt", b"lost"), ("2.png", png())])
    flags = ("--teacher", "none", "--data", f"wds:{path}", "--image_size", "8", "--out", tmp_path / "cache")
    command("extract", *flags).refuses("'1' of a.tar must have one image, but has txt", "--on_error skip")
    done = extract(*flags, "--on_error", "skip")
    note, captions, announced, skipped, *_ = done.out.splitlines()
    assert captions.endswith("a.tar: .txt: no image has a caption")
    assert note.startswith("extract: note: --data wds:") and note.endswith(
        "1 of 3 samples cannot be read, the first is 1"
    )
    assert "3 views to make" in announced and skipped == "extract: 1 sample skipped: 1"
    assert json.loads((viewset_of(tmp_path / "cache") / "viewset.json").read_bytes())["skipped"] == ["1"]


def test_a_tar_in_which_no_sample_has_its_image_is_refused_in_any_case(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("0.bin", b""), ("1.bin", b"")])
    flags = ("--teacher", "none", "--data", f"wds:{path}", "--image_size", "8", "--out", tmp_path / "cache")
    command("extract", *flags, "--on_error", "skip").refuses("'0' of a.tar must have one image", "every sample is so")
    assert not list((tmp_path / "cache").rglob("*.json"))


def linked(path: Path, kind: bytes, target: str) -> Path:
    """a/0.png, and a/1.png that links to it."""
    with tarfile.open(tar(path, [("a/0.png", png(7)), ("a/2.png", png(9))]), "a") as opened:
        link = tarfile.TarInfo("a/1.png")
        link.type, link.linkname = kind, target
        opened.addfile(link)
    return path


@pytest.mark.parametrize(
    ("kind", "target"),
    [(tarfile.LNKTYPE, "a/0.png"), (tarfile.LNKTYPE, "./a/0.png"), (tarfile.SYMTYPE, "0.png")],
)
def test_links_lead_to_the_file_that_holds_the_image(tmp_path: Path, kind: bytes, target: str) -> None:
    source = open_source(f"wds:{linked(tmp_path / '0.tar', kind, target)}", "train")
    pixels = {key: source.read(index).image.getpixel((0, 0)) for index, key in enumerate(source.keys)}
    assert pixels == {"a/0": 7, "a/2": 9, "a/1": 7}


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_that_leads_out_of_the_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(BadInput, match=r"a/1.png of 0.tar is a link to b/0.png, which is no file in it: .*dereference"):
        open_source(f"wds:{linked(tmp_path / '0.tar', kind, 'b/0.png')}", "train")


def test_a_sparse_member_is_not_read_as_what_follows_it(tmp_path: Path) -> None:
    """GNU's old form: the header maps 512 stored bytes into a file of 2,048."""
    header = tarfile.TarInfo("0.png")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"%011o\0" % 2048
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
    following = tar(tmp_path / "rest", [("1.png", png(9))]).read_bytes()
    (tmp_path / "0.tar").write_bytes(bytes(block) + bytes(512) + following)
    source = open_source(f"wds:{tmp_path / '0.tar'}", "train")
    assert (list(source.keys), source.unreadable) == (["0", "1"], (0,))
    assert source.read(1).image.getpixel((0, 0)) == 9
    with pytest.raises(BadInput, match=r"'0' of 0.tar is stored sparse"):
        source.read(0)


def test_tars_joined_by_cat_are_read_to_the_end(tmp_path: Path) -> None:
    parts = [tar(tmp_path / str(part), [(f"{part}.png", png(part))]).read_bytes() for part in range(3)]
    (tmp_path / "0.tar").write_bytes(b"".join(parts))
    source = open_source(f"wds:{tmp_path / '0.tar'}", "train")
    assert [source.read(index).image.getpixel((0, 0)) for index in range(3)] == [0, 1, 2]
    (tmp_path / "0.tar").write_bytes(parts[0] + parts[1] + b"?" * 700)
    with pytest.raises(BadInput, match=f"0.tar is cut or damaged at byte {2 * len(parts[0])} "):
        open_source(f"wds:{tmp_path / '0.tar'}", "train")


@pytest.mark.parametrize(("suffix", "unpack"), [("tar.gz", "gunzip"), ("tgz", "gunzip"), ("tar.xz", "unxz")])
def test_compressed_tars_are_to_be_unpacked(tmp_path: Path, suffix: str, unpack: str) -> None:
    whole = tar(tmp_path / "whole", [("0.png", png())])
    compress = {"gunzip": gzip.compress, "unxz": lzma.compress}[unpack]
    packed = tmp_path / f"pets/a.{suffix}"
    packed.parent.mkdir()
    packed.write_bytes(compress(whole.read_bytes()))
    with pytest.raises(BadInput, match=f"write --data wds:{packed.parent}"):
        open_source(str(packed.parent), "train")
    for data in (packed, packed.parent, packed.parent / f"*.{suffix}"):
        with pytest.raises(BadInput, match=f"a.{suffix} is compressed, and .*: {unpack} {packed}"):
            open_source(f"wds:{data}", "train")
    disguised = packed.rename(tmp_path / "pets/a.tar")
    with pytest.raises(BadInput, match=f"{unpack} {disguised}"):
        open_source(f"wds:{disguised}", "train")
    disguised.rename(packed)
    tar(tmp_path / "pets/b.tar", [("0.png", png())])
    source = open_source(f"wds:{tmp_path}/pets", "train")
    assert list(source.keys) == ["0"]
    assert source.notes == (f"--data wds:{tmp_path}/pets: 1 compressed tar left out (a.{suffix}): gunzip to read them",)


def test_thumbnails_of_a_system_are_no_samples(tmp_path: Path) -> None:
    thumbnail = "a/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg"
    source = open_source(f"wds:{tar(tmp_path / '0.tar', [('a/0.png', png()), (thumbnail, b'')])}", "train")
    assert list(source.keys) == ["a/0"]
    assert source.notes == (f"--data wds:{tmp_path}/0.tar: left out 1 hidden or system name (@eaDir)",)


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
