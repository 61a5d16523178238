"""Sources of text: documents in their order, cleaned, from any number on; what cannot be read is named and bounded."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from extract.sources import Document, Source, open_source
from extract.sources.documents import MAX_DOCUMENT_BYTES
from shards.errors import BadInput


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
