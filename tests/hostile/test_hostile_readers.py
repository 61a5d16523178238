"""What fuzzing and attacks found: each foreign file that ended in a traceback, or took what it liked, is refused."""

import io
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from caches import command, reseal, reseal_records, targetset_of, viewset_of
from PIL import Image
from spoilers import write_headers
from texts import write_encoder
from watching import bounded, peak_bytes, peak_restarts

from distill.checkpoints import LAST, resumable
from extract.modalities.tokenizer import TextTokenizer
from extract.networks.data2vec2.checkpoint import load_data2vec2
from extract.networks.state_dict import read_state_dict
from extract.photo import decoded
from extract.sources import open_source
from extract.sources.captions import caption_texts
from extract.sources.naming import content_revision
from shards.command.tables import print_table
from shards.errors import BadInput, Damaged, one_line, printable
from shards.plain_yaml import MOST_VALUES, read_yaml
from shards.reader import ViewSet
from shards.tar import listing


def test_a_size_that_no_offset_holds(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.png").tobuf(tarfile.USTAR_FORMAT)
    spoilt = bytearray(header[:124] + b"\x80" + b"\xff" * 11 + header[136:])
    spoilt[148:156] = b"%06o\0 " % (sum(spoilt[:148]) + 8 * 32 + sum(spoilt[156:512]))
    (tmp_path / "train.tar").write_bytes(bytes(spoilt) + bytes(1024))
    with pytest.raises(BadInput, match=r"train\.tar"):
        open_source(f"wds:{tmp_path}", "train")
    with pytest.raises(Damaged):
        listing(bytes(spoilt) + bytes(1024))


@pytest.mark.parametrize("raw", [3, 0.5, ["a"], {"a": 1}, None])
def test_a_caption_that_is_no_text(tmp_path: Path, raw: Any) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    image = {"filename": "0.png", "split": "train", "sentences": [{"raw": raw}]}
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [image]}))
    with pytest.raises(BadInput, match="is no Karpathy split"):
        open_source("coco", "train", str(tmp_path))


def test_half_of_a_pair_is_no_character() -> None:
    assert caption_texts(["a \ud800 b", "c"]) == ("a \ufffd b", "c")
    assert content_revision(caption_texts("\udc00"))


def test_a_name_with_half_of_a_pair(tmp_path: Path) -> None:
    """It is no file's name, and that image alone lacks."""
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    names = ["0.png", "\ud9ff.png"]
    images = [{"filename": name, "split": "train", "sentences": [{"raw": "a cat"}]} for name in names]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    source = open_source("coco", "train", str(tmp_path))
    assert source.unreadable == (1,) and source.keys[0] == "0" and source.read(0).texts == ("a cat",)


def test_half_of_a_pair_in_a_record(cache: Path) -> None:
    """The name of a field that nobody knows."""
    reseal(viewset_of(cache) / "viewset.json", lambda document: document.update({"\ud800": 1}))
    with pytest.raises(Damaged, match="surrogates not allowed"):
        ViewSet(viewset_of(cache))
    assert command("shards", "list", cache).err.isprintable()


def test_tables_that_are_not_utf_8(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    images = pa.array([{"bytes": b"x", "path": "a"}])
    pa.parquet.write_table(pa.table({"image": images, "caption": texts}), tmp_path / "train.parquet")
    with pytest.raises(BadInput, match=r"UTF-?8"):
        open_source(f"parquet:{tmp_path}", "train")
    pa.parquet.write_table(pa.table({"image": images, "label": texts}), tmp_path / "train.parquet")
    with pytest.raises(BadInput, match=r"UTF-?8"):
        open_source(f"parquet:{tmp_path}", "train")
    for row in (b"a,b,\xff1\n", b"a,\xff\xfe,1\n"):
        (tmp_path / "validation.csv").write_bytes(b"sentence1,sentence2,label\n" + row)
        with pytest.raises(BadInput, match="cannot be read"):
            open_source(f"sentences:{tmp_path}/validation.csv", "validation")


@pytest.mark.parametrize("label", [b"x", b"", b"1" * 5000, b"\xff"])
def test_a_stored_label_that_is_no_number(cache: Path, label: bytes) -> None:
    folder = viewset_of(cache)
    record = json.loads((folder / "commits/v00-00000.json").read_bytes())
    offset, _ = record["members"]["cls"][0]
    reseal(folder / "commits/v00-00000.json", lambda commit: commit["members"]["cls"].__setitem__(0, [offset, 512]))
    tar = bytearray((folder / "views/v00-00000.tar").read_bytes())
    tar[offset : offset + 512] = label[:512].ljust(512, b"x")
    (folder / "views/v00-00000.tar").write_bytes(tar)
    reseal_records(folder, "viewset.json", "views/v00-00000.tar", "commits/v00-00000.json")
    with pytest.raises(Damaged, match="is no whole number"):
        ViewSet(folder).labels(0, [0])


def test_views_that_a_manifest_only_claims(cache: Path) -> None:
    reseal(targetset_of(cache) / "targetset.json", lambda document: document.update(num_views=10**9))
    found = command("shards", "verify", cache)
    assert found.status == 2 and "lists fewer files than shards" in found.err


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    "text", [ALIASES, "[" * 20_000, "a: 2024-99-99", "1" * 5000, "!!timestamp x", "\0", "!!bool x"]
)
def test_yaml_that_is_none_or_too_much(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_yaml(text)
    assert str(refused.value).isprintable()
    (tmp_path / "mine.yaml").write_text(text)
    command("extract", "--config", tmp_path / "mine.yaml", "--out", tmp_path / "x").refuses("is not YAML")
    command("distill", "--shards", tmp_path, "--recipe", tmp_path / "mine.yaml").refuses("not YAML")


def test_yaml_that_is_large_is_read() -> None:
    assert len(read_yaml("\n".join(f"- {n}" for n in range(5000)))) == 5000 < MOST_VALUES


def test_weights_that_unfold(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive, zipfile.ZipFile(tmp_path / "b.pt", "w", 8) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(BadInput, match="its archive is compressed"):
        read_state_dict(tmp_path / "b.pt")
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "c.pt")
    with pytest.raises(BadInput, match="not stored as it is declared"):
        read_state_dict(tmp_path / "c.pt")
    torch.save({"a": torch.zeros(1).expand(4)}, tmp_path / "d.pt")
    assert read_state_dict(tmp_path / "d.pt")["a"].shape == (4,)


def test_an_archive_whose_directory_is_spoilt(tmp_path: Path) -> None:
    torch.save({"cfg": {}, "model": {}}, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes().replace(b"PK\1\2", b"PK\0\0"))
    for read in (load_data2vec2, read_state_dict):
        with pytest.raises(BadInput, match=r"a\.pt"):
            read(tmp_path / "a.pt")


def test_an_archive_that_says_it_is_in_parts(tmp_path: Path) -> None:
    """By the record that says where the end of a large archive lies, which stands before the end."""
    torch.save({"cfg": {}, "model": {}}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    end = content.rindex(b"PK\5\6")
    large = struct.pack("<4sLQL", b"PK\6\7", 1, end, 2)
    (tmp_path / "a.pt").write_bytes(content[:end] + large + content[end:])
    with pytest.raises(BadInput, match="not a PyTorch checkpoint"):
        load_data2vec2(tmp_path / "a.pt")
    with pytest.raises(BadInput, match=r"a\.pt"):
        read_state_dict(tmp_path / "a.pt")
    (tmp_path / "a.pt").rename(tmp_path / LAST)
    with pytest.raises(Damaged, match="is no whole checkpoint; remove it"):
        resumable(tmp_path)


def test_an_image_that_is_a_program() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    with pytest.raises(BadInput, match="not an image of a format that is read"):
        decoded(buffer.getvalue(), True, "x")


def test_a_terminal_is_told_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b[2J\x1b]0;owned\x07\u202e\ud800é"
    assert printable(evil) == "a\\x1b[2J\\x1b]0;owned\\x07\\u202e\\ud800é" and printable("é 日本") == "é 日本"
    assert one_line(BadInput(evil + "\nb")).isprintable()
    print_table(("name",), [(evil,)])
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_ids_that_a_tokenizer_only_claims(tmp_path: Path) -> None:
    """The library counts up to the last id when it writes itself."""
    write_encoder(tmp_path)
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"] |= {"cat": 4_000_000_000}
    path.write_text(json.dumps(document))
    with bounded(60, 1 << 30), pytest.raises(BadInput, match="has the id 4000000000 among"):
        TextTokenizer.of_folder("--teacher x", tmp_path)


def test_special_tokens_that_the_vocabulary_lacks(tmp_path: Path) -> None:
    """The library asks for the unknown one in the place of each, and of itself."""
    write_encoder(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cls_token": "", "unk_token": ""}))
    with pytest.raises(BadInput, match="holds no tokenizer that `transformers` reads"):
        TextTokenizer.of_folder("--teacher x", tmp_path)


@pytest.mark.slow
def test_a_footer_that_pyarrow_does_not_survive(tmp_path: Path) -> None:
    """A schema without nulls, of a column whose statistics count them; in a process of its own, as it would abort."""
    path = tmp_path / "train.parquet"
    pa.parquet.write_table(pa.table({"image": [{"bytes": b"x", "path": "a"}, {"bytes": None, "path": None}]}), path)
    content = path.read_bytes()
    assert content.count(b"\x02\x18\x05image") == 1  # optional, then the name
    path.write_bytes(content.replace(b"\x02\x18\x05image", b"\x00\x18\x05image"))
    flags = ("--teacher", "none", "--data", f"parquet:{tmp_path}", "--out", str(tmp_path / "out"))
    found = subprocess.run([sys.executable, "-m", "extract", *flags], capture_output=True, text=True)
    assert found.returncode == 2 and "cannot be read as parquet" in found.stderr, found


def test_a_header_that_only_claims_its_size(tmp_path: Path) -> None:
    """A long name of 4 GB, of which nothing follows."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    (tmp_path / "train.tar").write_bytes(header.tobuf() + bytes(1024))
    with bounded(60, 1 << 30), pytest.raises(BadInput, match=r"train\.tar"):
        open_source(f"wds:{tmp_path}/train.tar", "train")


@pytest.mark.slow
@pytest.mark.parametrize("endings", [("png",), ("png", "txt")], ids=" and ".join)
def test_a_million_members(tmp_path: Path, endings: tuple[str, ...]) -> None:
    """Headers that `tarfile` keeps would take a gigabyte."""
    write_headers(tmp_path / "train.tar", 1_000_000, *endings)
    peak_restarts()
    source = open_source(f"wds:{tmp_path}", "train")
    assert len(source.keys) == 1_000_000 // len(endings)
    assert peak_bytes() < 512 << 20


def test_a_sample_of_many_members(tmp_path: Path) -> None:
    """Not all of them are told."""
    many = [f"{number:08d}" for number in range(2000)]
    write_headers(tmp_path / "train.tar", len(many), *many)
    source = open_source(f"wds:{tmp_path}", "train")
    with pytest.raises(BadInput, match=r"must have one image, but has 0{8}, 0{7}1") as refused:
        source.read(0)
    assert len(str(refused.value)) < 500
