"""Packing: the stream is the tokenizer's ids, whatever threads and kills; rows are cut from it by arithmetic."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.modalities import packing
from extract.modalities.packing import tokenise
from extract.modalities.token_stream import Stream
from extract.modalities.tokenizer import TextTokenizer
from extract.sources.base import Document, Source
from shards.errors import BadInput

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "cat", "sat", "on", "mat", "##s", "##ted", ".", ",")


def tokenizer() -> TextTokenizer:
    library = tokenizers.Tokenizer(tokenizers.models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    library.normalizer = tokenizers.normalizers.BertNormalizer()
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return TextTokenizer(library, 1, 2, 0)


def corpus(documents: Sequence[Document], class_names: tuple[str, ...] | None = None, revision: str = "1") -> Source:
    return Source(
        name="texts",
        revision=revision,
        split="train",
        keys=(),
        class_names=class_names,
        has=frozenset({"texts"}),
        documents=lambda start: islice(iter(documents), start, None),
    )


def many(count: int = 3000, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    words = ["the", "cats", "sat", "on.", "a", "matted", "mat,", "dog"]
    return [Document(" ".join(draw.choices(words, k=draw.randrange(0, 30)))) for _ in range(count)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def all_ids(documents: Sequence[Document]) -> list[int]:
    return [number for ids in tokenizer().ids([document.text for document in documents]) for number in ids.tolist()]


def check_blocks(stream: Stream, ids: list[int], size: int) -> None:
    blocks, room = stream.blocks(size), size - 2
    assert len(blocks) == len(blocks.keys) == -(-len(ids) // room)
    tokens, lengths = blocks.rows(0, len(blocks))
    assert tokens.dtype == np.uint16 and tokens.shape == (len(blocks), size)
    for number, (row, length) in enumerate(zip(tokens.tolist(), lengths.tolist(), strict=True)):
        content = ids[number * room : (number + 1) * room]
        assert length == len(content) + 2
        assert row == [1, *content, 2] + [0] * (size - length)
    for (document, offset), position in zip(blocks.keys.tolist(), range(0, len(ids), room), strict=True):
        assert stream.starts[document] + offset == position and offset < stream.counts[document]


@settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=30),
    size=st.integers(3, 9),
    part_characters=st.integers(1, 60),
)
def test_blocks_are_the_stream_cut_into_runs(
    counts: list[int], size: int, part_characters: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents = [
        Document(["the", "cats", "on", "mat."][i % 4] * (n > 0) + " sat" * max(0, n - 2)) for i, n in enumerate(counts)
    ]
    folder = tmp_path_factory.mktemp("stream")
    if not any(document.text for document in documents):
        with pytest.raises(BadInput, match="split train of texts holds no text"):
            tokenise(corpus(documents), tokenizer(), folder, 2)
        return
    stream = tokenise(corpus(documents), tokenizer(), folder, 2, False, part_characters)
    assert stream.num_documents == len(documents)
    check_blocks(stream, all_ids(documents), size)


def test_texts_are_a_document_a_row_cut_off_and_padded(tmp_path: Path) -> None:
    documents = [Document("the cat", 1), Document("", 0), Document("on the mat.", None), Document("sat " * 9, 0)]
    stream = tokenise(corpus(documents, ("a", "b")), tokenizer(), tmp_path, 1, part_characters=12)
    assert len(stream.parts) > 2
    texts = stream.texts(6)
    assert texts.keys.tolist() == [[0, 0], [2, 0], [3, 0]] and texts.num_truncated == 1
    assert texts.labels is not None and texts.labels.tolist() == [1, -1, 0]
    tokens, lengths = texts.rows(0, 3)
    assert tokens.tolist() == [[1, 4, 5, 2, 0, 0], [1, 7, 4, 8, 11, 2], [1, 6, 6, 6, 6, 2]]
    assert lengths.tolist() == [4, 6, 6]
    for row in range(3):
        assert texts.fields(row)["tokens"].tolist() == tokens[row].tolist()
    listed = [(documents[document].text,) for document, _ in texts.keys.tolist()]
    alike = tokenizer().rows(listed, 6)
    assert alike["tokens"].tolist() == tokens.tolist() and alike["length"].tolist() == lengths.tolist()


def test_any_number_of_threads_and_any_chunk_write_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = many()
    written = []
    for threads, characters in ((1, 1 << 18), (2, 1000), (5, 1)):
        monkeypatch.setattr(packing, "_CHUNK_CHARACTERS", characters)
        stream = tokenise(corpus(documents), tokenizer(), tmp_path / str(threads), threads, part_characters=20_000)
        written.append(files(stream.folder))
    assert len(stream.parts) > 5 and written[0] == written[1] == written[2]
    check_blocks(stream, all_ids(documents), 64)


def test_a_finished_stream_is_opened_without_its_source(tmp_path: Path) -> None:
    documents = many(50)
    first = tokenise(corpus(documents), tokenizer(), tmp_path, 2)
    again = tokenise(corpus([Document("", fault="is gone")]), tokenizer(), tmp_path, 2)
    assert again.total == first.total and again.total.num_documents == 50


def test_another_revision_or_a_damaged_part_is_written_anew(tmp_path: Path) -> None:
    documents, others = many(300), many(200, seed=1)
    tokenise(corpus(documents), tokenizer(), tmp_path, 2, part_characters=5000)
    before = files(tmp_path)
    for damage in ("00001.ids", "00002.json", "00000.counts"):
        (tmp_path / damage).write_bytes(before[damage][:-9])
        tokenise(corpus(documents), tokenizer(), tmp_path, 2, part_characters=5000)
        assert files(tmp_path) == before
    stream = tokenise(corpus(others, revision="2"), tokenizer(), tmp_path, 2, part_characters=5000)
    check_blocks(stream, all_ids(others), 16)
    assert len(files(tmp_path)) == 3 * len(stream.parts) < len(before)


def test_what_cannot_be_read_ends_the_run_or_is_left_out_and_counted(tmp_path: Path) -> None:
    documents = [
        Document("the cat", None, None, 2, 1),
        Document("", fault="b.txt: byte 3 is not UTF-8"),
        Document("sat"),
    ]
    with pytest.raises(BadInput, match="byte 3 is not UTF-8, or leave such documents out with --on_error skip"):
        tokenise(corpus(documents), tokenizer(), tmp_path, 2)
    stream = tokenise(corpus(documents), tokenizer(), tmp_path, 2, skip_errors=True)
    total = stream.total
    assert (total.num_documents, total.num_tokens, total.num_unreadable, total.num_empty) == (3, 3, 1, 0)
    assert stream.notes == ("--data: left out 1 empty line, 2 null bytes, 1 unreadable document",)
    with pytest.raises(BadInput, match="byte 3"):
        tokenise(corpus(documents), tokenizer(), tmp_path, 2)


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_packing import corpus, many, tokenizer, tokenise
tokenise(corpus(many(30_000)), tokenizer(), Path(sys.argv[2]), int(sys.argv[3]), part_characters=40_000)
print("done")
"""


@pytest.mark.slow
def test_killed_runs_leave_whole_parts_and_the_same_bytes(tmp_path: Path) -> None:
    expected = tokenise(corpus(many(30_000)), tokenizer(), tmp_path / "expected", 2, part_characters=40_000)
    draw, kills, scratch = random.Random(7), 0, tmp_path / "killed"
    for attempt in range(40):
        command = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(scratch), str(attempt % 3 + 1)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        parts = len(list(scratch.glob("*.json")))
        aim = parts + draw.randrange(1, len(expected.parts) // 5)
        while child.poll() is None and (kills >= 6 or len(list(scratch.glob("*.json"))) < aim):
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        output = child.communicate()[0]
        kills += child.returncode == -signal.SIGKILL
        if output:
            break
    assert output == "done\n" and kills >= 4
    assert files(scratch) == files(tmp_path / "expected")
