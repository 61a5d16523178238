"""Sources of text: documents in their order, cleaned, from any number on; what cannot be read is named and bounded."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.sources import Document, Source, open_source
from extract.sources.documents import MAX_DOCUMENT_BYTES
from shards.errors import BadInput, SourceUnavailable


def documents(source: Source, start: int = 0) -> list[Document]:
    assert source.documents is not None and source.has == {"texts"} and not source.keys
    return list(source.documents(start))


def texts(source: Source) -> list[str]:
    assert not any(document.fault for document in documents(source))
    return [document.text for document in documents(source)]


def write_lines(path: Path, lines: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")


def test_a_line_is_a_document_and_its_number_the_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / "train-0.txt", ["one", "", "two words"])
    write_lines(tmp_path / "train-1.txt", ["grüße\x0b\u2028inside"])
    write_lines(tmp_path / "val.txt", ["other"])
    source = open_source(f"text:{tmp_path}", "train")
    assert texts(source) == ["one", "", "two words", "grüße\x0b\u2028inside"]
    assert [document.num_empty_lines for document in documents(source)] == [0, 0, 0, 0]
    assert texts(open_source(f"text:{tmp_path}", "validation")) == ["other"]
    for start in range(6):
        assert documents(source, start) == documents(source)[start:]
    assert "text_files:" in source.notes[0]


def test_limit_takes_the_first_documents_and_tells_in_the_revision(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.txt", list("abcde"))
    whole, part = (open_source(f"text:{tmp_path}", "train", limit=limit) for limit in (None, 3))
    assert texts(part) == ["a", "b", "c"] and whole.revision != part.revision
    assert [document.text for document in documents(part, 2)] == ["c"] and documents(part, 4) == []


def test_bom_and_windows_line_ends_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\0 words\r\n\r\nlast")
    source = open_source(f"text:{tmp_path / 'a.txt'}", "train")
    assert texts(source) == ["one", "two words", "", "last"]
    assert sum(document.num_null_bytes for document in documents(source)) == 1


def test_a_file_is_a_document_without_empty_lines_and_null_bytes(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbffirst\r\n\r\n \t\r\nsecond\0\n")
    (tmp_path / "a.txt").write_bytes(b"\n\n")
    source = open_source(f"text_files:{tmp_path}", "train")
    assert documents(source) == [Document(""), Document("first\nsecond", None, None, 1, 2)]


def test_not_utf8_names_file_and_byte_and_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfgood\nb\xe9d\ngood again\n")
    faulty = documents(open_source(f"text:{tmp_path}", "train"))
    assert [document.text for document in faulty] == ["good", "", "good again"]
    assert "a.txt: byte 9 (0xe9) is not UTF-8" in str(faulty[1].fault)
    (fault,) = [document.fault for document in documents(open_source(f"text_files:{tmp_path}", "train"))]
    assert "a.txt: byte 9 (0xe9) is not UTF-8" in str(fault)


def test_a_document_longer_than_the_limit_is_named_and_not_read(tmp_path: Path) -> None:
    import tracemalloc

    with (tmp_path / "a.txt").open("wb") as file:
        file.write(b"before\n")
        for _ in range(6):
            file.write(b"x" * MAX_DOCUMENT_BYTES)
        file.write(b"\nafter \xff\n")
        file.write(b"y" * MAX_DOCUMENT_BYTES + b"\n")
    source = open_source(f"text:{tmp_path}", "train")
    assert source.documents is not None
    tracemalloc.start()
    lengths = [(len(document.text), str(document.fault)) for document in source.documents(0)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [length for length, _ in lengths] == [6, 0, 0, MAX_DOCUMENT_BYTES]
    assert "line 2 of a.txt is longer than" in lengths[1][1]
    # bytes of one line, its text and the text without its line end: never the six limits of the long line
    assert peak < 5 * MAX_DOCUMENT_BYTES
    offset = 7 + 6 * MAX_DOCUMENT_BYTES + 1 + 6
    assert f"byte {offset:,} (0xff)" in lengths[2][1]
    (fault,) = [document.fault for document in documents(open_source(f"text_files:{tmp_path}", "train"))]
    assert "a.txt is longer than" in str(fault)


def test_jsonl_gives_the_field_and_the_chosen_labels(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"text": "a\n\nb", "mood": "up"}, {"text": "half \ud83d", "mood": "down"}])
    write_lines(tmp_path / "val.jsonl", [{"text": "c", "body": "C", "mood": "up"}])
    source = open_source(f"text:{tmp_path}", "train")
    assert texts(source) == ["a\nb", "half \ufffd"] and source.class_names is None
    source = open_source(f"text:{tmp_path}:text=body,label=mood", "val")
    assert source.class_names == ("down", "up")
    assert [(document.text, document.label) for document in documents(source)] == [("C", 1)]


def test_jsonl_lines_that_have_no_text_are_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": "a"}, "{", "[1]", {"text": None}, {"other": 1}])
    faults = [document.fault or "" for document in documents(open_source(f"text:{tmp_path}", "train"))]
    expected = ("", "line 2 of a.jsonl is no JSON", "line 3 of a.jsonl is no JSON object", "line 4", "line 5")
    assert all(part in fault for part, fault in zip(expected, faults, strict=True))


def test_what_is_asked_of_text_files_and_is_not_there(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.txt", ["a"])
    write_lines(tmp_path / "json" / "a.jsonl", [{"body": "a", "id": 1}])
    for data, expected in (
        ("text:{}/nothing", "no .txt or .jsonl or .parquet file is found"),
        ("text:{}", "holds .jsonl and .txt files: give a quoted pattern of one kind"),
        ("text:{}/a.txt:text=body", ".txt files have no fields"),
        ("text:{}/json", "a.jsonl has no field 'text', only body, id: name one of these, as in --data text:"),
        ("text:{}/json:text=body,label=mood", "has no field 'mood', only body, id"),
        ("text:{}/json:image=body", "image= is no column's role"),
        ("text_files:{}/json", "no .txt file is found"),
    ):
        with pytest.raises(BadInput) as refused:
            open_source(data.format(tmp_path), "train")
        assert expected in str(refused.value) and "\n" not in str(refused.value)


def test_the_revision_covers_names_and_sizes_not_the_path(tmp_path: Path) -> None:
    revisions = []
    for folder, name, line in (("x", "a", "one"), ("y", "a", "two"), ("z", "a", "three"), ("w", "b", "one")):
        write_lines(tmp_path / folder / f"{name}.txt", [line])
        revisions.append(open_source(f"text:{tmp_path / folder}", "train").revision)
    assert revisions[0] == revisions[1] and len(set(revisions)) == 3


def write_parquet(path: Path, rows: int = 700, first: int = 0, **columns: pa.Array) -> None:
    """Texts `text 0` on, in groups of 100 rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = columns or {"text": pa.array([f"text {first + row}" for row in range(rows)])}
    pq.write_table(pa.table(columns), path, row_group_size=100)


@pytest.mark.parametrize("scheme", ["parquet", "text", "hf"])
def test_a_text_column_of_a_table(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets_cache"))
    write_parquet(tmp_path / "corpus" / "train-0.parquet")
    write_parquet(tmp_path / "corpus" / "train-1.parquet", 300, 700)
    source = open_source(f"{scheme}:{tmp_path / 'corpus'}", "train")
    assert texts(source) == [f"text {row}" for row in range(1000)]
    for start in (0, 99, 100, 256, 699, 700, 701, 999, 1000, 2000):
        assert documents(source, start) == documents(source)[start:]


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_chosen_columns_of_texts_and_labels(
    scheme: str, kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets_cache"))
    body = pa.array(["a\n\nb", None, "", "\ufeffd"], kind)
    write_parquet(tmp_path / "corpus" / "train.parquet", body=body, mood=pa.array(["up", "down", "up", None]))
    data = f"{scheme}:{tmp_path / 'corpus'}"
    source = open_source(f"{data}:text=body,label=mood", "train")
    assert [document[:2] for document in documents(source)] == [("a\nb", 1), ("", 0), ("", 1), ("d", None)]
    assert source.class_names == ("down", "up")
    for spec, expected in (
        ("", f"none called text holds text, only body, mood: name one, as in --data {data}:image=COLUMN"),
        (":text=bodi", "no column 'bodi' for text=, only body, mood"),
        (":text=body,image=mood", "samples are images or texts"),
        (":text=", "text= names no column"),
    ):
        with pytest.raises(BadInput) as refused:
            open_source(f"{data}{spec}", "train")
        assert expected in str(refused.value)


def test_rows_of_a_table_that_are_not_utf8_or_too_long_are_named(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"b\xffd", b"x" * (MAX_DOCUMENT_BYTES + 1)])
    text = pa.StringArray.from_buffers(3, *raw.buffers()[1:])
    write_parquet(tmp_path / "a.parquet", text=text)
    faults = [document.fault for document in documents(open_source(f"parquet:{tmp_path}", "train"))]
    assert faults[0] is None
    assert "a.parquet: row 1: byte 1 (0xff) is not UTF-8" in str(faults[1]) and "row 2 is longer than" in str(faults[2])


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_texts_of_tars_with_and_without_labels(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", {"a.txt": b"A", "a.json": b'{"url": 1}', "b.txt": b"B\0\n\nb\n"})
    write_tar(tmp_path / "train-1.tar", {"c.json": b"{}", "d.txt": b"\xff", "e.txt": b"E"})
    source = open_source(f"wds:{tmp_path}", "train")
    read = documents(source)
    assert [document.text for document in read] == ["A", "B\nb", "", "", "E"] and source.class_names is None
    assert "sample 'c' of train-1.tar has no text .txt, only json" in str(read[2].fault)
    assert "sample 'd' of train-1.tar: byte 0 (0xff)" in str(read[3].fault)
    for start in range(6):
        assert documents(source, start) == read[start:]
    labelled = {"a.txt": b"A", "a.cls": b"pets", "b.txt": b"B", "b.cls": b"cars", "c.txt": b"C", "d.cls": b""}
    write_tar(tmp_path / "labelled" / "train.tar", labelled)
    source = open_source(f"wds:{tmp_path / 'labelled'}", "train")
    assert [(document.text, document.label) for document in documents(source)] == [
        ("A", 1),
        ("B", 0),
        ("C", None),
        ("", None),
    ]
    assert source.class_names == ("cars", "pets")


def xz(files: dict[str, bytes]) -> bytes:
    """A .tar.xz as the hub's slices hold them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_slice(folder: Path, number: int, unpacked: bool = False) -> list[str]:
    """Two archives of two texts each; gives the texts in the order of the archives' numbers."""
    archives = {
        f"urlsf_subset{number:02d}-{part}_data.xz": xz(
            {f"{part}-{text}.txt": f"{number}.{part}.{text}\n\n\nx\0\n".encode() for text in (0, 1)}
        )
        for part in (2, 11)
    }
    if unpacked:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in archives.items():
            (folder / name).write_bytes(content)
    else:
        members = {"openwebtext/readme": b"?"} | {f"openwebtext/{name}": content for name, content in archives.items()}
        write_tar(folder / "subsets" / f"urlsf_subset{number:02d}.tar", members)
    return [f"{number}.{part}.{text}\nx" for part in (2, 11) for text in (0, 1)]


@pytest.mark.parametrize("unpacked", [False, True])
def test_openwebtext_of_archives(unpacked: bool, tmp_path: Path) -> None:
    written = {number: write_slice(tmp_path, number, unpacked) for number in (0, 1, 3, 4, 5, 6)}
    train = open_source("openwebtext", "train", str(tmp_path))
    assert texts(train) == [*written[0], *written[1], *written[3], *written[4]]
    assert (
        train.notes == (f"--data_dir {tmp_path}: split train lacks slice 2 in {tmp_path}",)
        and train.name == "openwebtext"
    )
    assert documents(train, 5) == documents(train)[5:]
    validation = open_source("openwebtext", "val", str(tmp_path))
    assert texts(validation) == written[5] and validation.notes == () and validation.split == "validation"


def test_openwebtext_of_parquet_is_cut_in_the_same_proportions(tmp_path: Path) -> None:
    for number in range(4):
        write_parquet(tmp_path / "plain_text" / f"train-{number:05d}-of-00004.parquet", 420, number * 420)
    train, validation = (texts(open_source("openwebtext", split, str(tmp_path))) for split in ("train", "validation"))
    assert train == [f"text {row}" for row in range(400)]
    assert validation == [f"text {row}" for row in range(400, 480)]
    (tmp_path / "plain_text" / "train-00000-of-00004.parquet").unlink()
    source = open_source("openwebtext", "validation", str(tmp_path))
    assert texts(source) == [f"text {row}" for row in range(420, 480)] and "lacks file 0 of 4" in source.notes[0]
    with pytest.raises(BadInput, match=r"split train: download subsets/urlsf_subset00\.tar to urlsf_subset04"):
        open_source("openwebtext", "train", str(tmp_path))


def test_openwebtext_out_of_reach_says_what_to_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    expected = r"out of reach .* download subsets/urlsf_subset05\.tar of https://\S+ and give .* --data_dir"
    with pytest.raises(SourceUnavailable, match=expected):
        open_source("openwebtext", "validation")


@pytest.mark.parametrize("cut", [30, 100, -1, -40])
def test_a_damaged_archive_of_openwebtext_is_named(cut: int, tmp_path: Path) -> None:
    write_slice(tmp_path, 5, unpacked=True)
    path = tmp_path / "urlsf_subset05-11_data.xz"
    content = path.read_bytes()
    for damaged in (content[:cut], content[:cut] + bytes([content[cut] ^ 0x55]) + content[len(content[:cut]) + 1 :]):
        path.write_bytes(damaged)
        try:
            read = documents(open_source("openwebtext", "validation", str(tmp_path)))
        except BadInput as refused:
            assert "urlsf_subset05-11_data.xz is damaged" in str(refused)
        else:  # what lies behind the archive's last text is not read
            assert len(read) == 4


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz"])
def test_compressed_files_are_to_be_unpacked(tmp_path: Path, name: str) -> None:
    import gzip

    path = tmp_path / name
    path.write_bytes(gzip.compress(b"a line"))
    with pytest.raises(BadInput, match=f"{name} is compressed, and texts .*: gunzip {path}"):
        open_source(f"text:{path}", "train")
    with pytest.raises(BadInput, match=f"{name} is compressed, and texts .*: gunzip {path}"):
        open_source(f"text:{tmp_path}", "train")  # a folder of nothing else
    (tmp_path / "b.txt").write_text("the only line")
    source = open_source(f"text:{tmp_path}", "train")
    assert texts(source) == ["the only line"]
    assert any(f"left out 1 compressed file, the first is {path}" in note for note in source.notes)


def test_names_in_capitals_are_read_and_linked_folders(tmp_path: Path) -> None:
    corpus, other = tmp_path / "corpus", tmp_path / "other"
    corpus.mkdir()
    other.mkdir()
    (corpus / "TRAIN.TXT").write_text("a line\n")
    (corpus / "folder.txt").mkdir()
    (corpus / "elsewhere").symlink_to(other)
    (other / "train_b.txt").write_text("another\n")
    assert texts(open_source(f"text:{corpus}", "train")) == ["a line", "another"]


def test_links_that_turn_back_are_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus" / "sub").mkdir(parents=True)
    (tmp_path / "corpus" / "train.txt").write_text("a line\n")
    (tmp_path / "corpus" / "sub" / "up").symlink_to("..")
    (tmp_path / "there").symlink_to("corpus")
    for name in ("corpus", "there"):
        with pytest.raises(BadInput, match=r"the link .*sub/up leads back to a folder that holds it: remove the link"):
            open_source(f"text:{tmp_path / name}", "train")
