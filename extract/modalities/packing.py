"""Packing: a corpus is tokenised once into a scratch stream of ids, of which blocks or single texts are rows.

The stream is cut by characters into parts of whole documents, so that its bytes depend neither on threads nor on where
a run was killed. A part is its ids, its token counts and its labels, committed by its record; the last one's says so.
Ids are mapped, never loaded whole; 12 bytes a document are in memory.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Int32, Integer, UInt32
from msgspec import structs

from extract.modalities.tokenizer import TextTokenizer
from extract.sources.base import Document, Source
from shards.command.progress import LINE_EVERY_S, counted
from shards.commit import make_folder, remove_leftovers, write_atomically, write_sealed
from shards.errors import BadInput, Damaged
from shards.identity import identity_hash
from shards.sealed import fields_of, unsealed

PART_CHARACTERS = 32 << 20
_CHUNK_CHARACTERS = 1 << 18
_KEYS_AT_ONCE = 1 << 20
_KIND = "tokens"
_NO_LABEL = -1
_LIBRARY_THREADS = "TOKENIZERS_PARALLELISM"


class Counts(msgspec.Struct, kw_only=True):
    """What a part, or the whole stream, holds, and what was left out of it."""

    num_documents: int = 0
    num_tokens: int = 0
    num_empty: int = 0
    """Documents without a text, those that cannot be read aside."""
    num_unreadable: int = 0
    num_null_bytes: int = 0
    num_empty_lines: int = 0

    def __str__(self) -> str:
        """What there is, and what was left out of it, in one clause."""
        left_out = (
            (self.num_empty, "empty document"),
            (self.num_empty_lines, "empty line"),
            (self.num_null_bytes, "null byte"),
            (self.num_unreadable, "unreadable document"),
        )
        said = ", ".join(counted(number, noun) for number, noun in left_out if number)
        there = f"{counted(self.num_documents, 'document')}, {counted(self.num_tokens, 'token')}"
        return f"{there}; left out {said}" if said else there


class _Part(Counts, kw_only=True):
    """The record of a part that is whole."""

    identity: str
    labelled: bool
    last: bool


def tokenise(
    source: Source,
    tokenizer: TextTokenizer,
    scratch: Path,
    num_threads: int,
    skip_errors: bool = False,
    separate: bool = False,
    part_characters: int = PART_CHARACTERS,
) -> "Stream":
    """The content ids of every document of `source`, in `scratch`, where the whole parts of a killed run stay.

    `separate` puts [SEP] behind each document. A document that cannot be read raises BadInput, or is an empty one with
    `skip_errors`; so does a corpus without a text.
    """
    identity = identity_hash(
        {
            "source": [source.name, source.split, source.revision, source.class_names],
            "tokenizer": [tokenizer.vocabulary.describe(), tokenizer.library.to_str()],
            "cut": [separate, part_characters],
        }
    )
    make_folder(scratch)
    remove_leftovers(scratch)
    parts = list(_whole_parts(scratch, tokenizer, identity, skip_errors))
    if not (parts and parts[-1].last):
        for leftover in scratch.glob("[0-9]*.*"):
            if int(leftover.stem) >= len(parts):
                leftover.unlink()
        writer = _Writer(source, tokenizer, scratch, separate, skip_errors, part_characters, identity)
        parts += writer.write(parts, num_threads)
    stream = Stream(tokenizer, scratch, separate, parts)
    if stream.num_tokens == 0:
        raise BadInput(f"--data: split {source.split} of {source.name} holds no text: give other data")
    return stream


@dataclass(frozen=True)
class Stream:
    """A tokenised corpus."""

    tokenizer: TextTokenizer
    folder: Path
    separate: bool
    parts: list[_Part]

    @cached_property
    def total(self) -> Counts:
        """The counts of the whole stream."""
        return Counts(**_sum(self.parts))

    @property
    def num_documents(self) -> int:
        """Empty ones included."""
        return self.total.num_documents

    @property
    def num_tokens(self) -> int:
        """Without [CLS]."""
        return self.total.num_tokens

    @property
    def notes(self) -> list[str]:
        """What was left out of the documents, a clause each."""
        left_out = {
            "empty document": self.total.num_empty,
            "document that cannot be read": self.total.num_unreadable,
            "null byte": self.total.num_null_bytes,
            "empty line": self.total.num_empty_lines,
        }
        listed = [f"{count:,} x {what}" for what, count in left_out.items() if count]
        return [f"--data: left out: {', '.join(listed)}"] if listed else []

    @cached_property
    def counts(self) -> UInt32[np.ndarray, " documents"]:
        """How many tokens each document has, its [SEP] included where documents are separated."""
        return self._concatenated("counts", "<u4")

    @cached_property
    def labels(self) -> Int32[np.ndarray, " documents"] | None:
        """Each document's class, -1 for none; None where the source has no classes."""
        return self._concatenated("labels", "<i4") if self.parts[0].labelled else None

    @cached_property
    def starts(self) -> Integer[np.ndarray, " starts"]:
        """The first token of each document in the stream, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])

    @cached_property
    def _part_starts(self) -> Integer[np.ndarray, " starts"]:
        return np.cumsum([0] + [part.num_tokens for part in self.parts])

    def gather(self, positions: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
        """The ids at `positions` of the stream, which do not decrease from row to row by more than a row."""
        gathered = np.empty(positions.shape, self.tokenizer.dtype)
        if not positions.size:
            return gathered
        least, most = positions.min(), positions.max()
        first = int(np.searchsorted(self._part_starts, least, "right")) - 1
        last = int(np.searchsorted(self._part_starts, most, "right")) - 1
        for part in range(first, last + 1):
            if not self.parts[part].num_tokens:
                continue
            start, end = self._part_starts[part : part + 2]
            ids = np.memmap(_path(self.folder, part, "ids"), _stored(self.tokenizer), "r", shape=(end - start,))
            if first == last:
                return ids[positions - start]
            inside = (positions >= start) & (positions < end)
            gathered[inside] = ids[positions[inside] - start]
        return gathered

    def blocks(self, size: int) -> "Blocks":
        """Rows of `size` tokens: [CLS], the next size - 2 tokens of the stream, [SEP]; the last one is padded."""
        return Blocks(self, size)

    def texts(self, size: int) -> "Texts":
        """A row of `size` tokens for each document that has a text, cut off or padded."""
        return Texts(self, size)

    def _concatenated(self, kind: str, dtype: str) -> Any:
        return np.concatenate([np.fromfile(_path(self.folder, part, kind), dtype) for part in range(len(self.parts))])


@dataclass(frozen=True)
class Rows:
    """What views are made of: rows of token ids, each with the place of its first content token."""

    stream: Stream
    size: int

    @property
    def room(self) -> int:
        """Content tokens a row, [CLS] and [SEP] aside."""
        return self.size - 2

    def __len__(self) -> int:
        raise NotImplementedError

    def _first(self, start: int, stop: int) -> Integer[np.ndarray, " rows"]:
        """The position in the stream of each row's first content token."""
        raise NotImplementedError

    def _num_content(self, start: int, stop: int) -> Integer[np.ndarray, " rows"]:
        raise NotImplementedError

    @cached_property
    def keys(self) -> UInt32[np.ndarray, "rows 2"]:
        """(document, offset in that document's tokens) of each row's first content token."""
        keys = np.empty((len(self), 2), np.uint32)
        for start in range(0, len(self), _KEYS_AT_ONCE):
            stop = min(start + _KEYS_AT_ONCE, len(self))
            first = self._first(start, stop)
            keys[start:stop, 0] = np.searchsorted(self.stream.starts, first, "right") - 1
            keys[start:stop, 1] = first - self.stream.starts[keys[start:stop, 0]]
        return keys

    def rows(self, start: int, stop: int) -> tuple[Integer[np.ndarray, "rows size"], Integer[np.ndarray, " rows"]]:
        """The ids of rows `start` to `stop`, padded, and their lengths without padding."""
        tokenizer = self.stream.tokenizer
        counts = self._num_content(start, stop)[:, None]
        column = np.arange(self.room)
        content = self.stream.gather(self._first(start, stop)[:, None] + np.minimum(column, counts - 1))
        tokens = np.full((len(counts), self.size), tokenizer.pad_id, tokenizer.dtype)
        tokens[:, 0] = tokenizer.cls_id
        tokens[:, 1:-1] = np.where(column < counts, content, tokens[:, 1:-1])
        np.put_along_axis(tokens, counts + 1, tokenizer.sep_id, 1)
        return tokens, (counts[:, 0] + 2).astype(np.uint16 if self.size < 1 << 16 else np.int32)

    def row(self, index: int) -> tuple[Integer[np.ndarray, " size"], int]:
        """The ids of one row, padded, and its length without padding."""
        tokens, lengths = self.rows(index, index + 1)
        return tokens[0], int(lengths[0])


class Blocks(Rows):
    """The stream cut into runs of one length: documents follow each other without a gap."""

    def __len__(self) -> int:
        return -(-self.stream.num_tokens // self.room)

    def _first(self, start: int, stop: int) -> Integer[np.ndarray, " rows"]:
        return np.arange(start, stop) * self.room

    def _num_content(self, start: int, stop: int) -> Integer[np.ndarray, " rows"]:
        return np.minimum(self.room, self.stream.num_tokens - self._first(start, stop))


class Texts(Rows):
    """One document a row."""

    @cached_property
    def documents(self) -> Integer[np.ndarray, " rows"]:
        """The number of each row's document: empty ones have no row."""
        return np.flatnonzero(self.stream.counts)

    def __len__(self) -> int:
        return len(self.documents)

    def _first(self, start: int, stop: int) -> Integer[np.ndarray, " rows"]:
        return self.stream.starts[self.documents[start:stop]]

    def _num_content(self, start: int, stop: int) -> Integer[np.ndarray, " rows"]:
        counts = self.stream.counts[self.documents[start:stop]].astype(np.int64)
        return np.minimum(self.room, counts - self.stream.separate)

    @property
    def num_truncated(self) -> int:
        """Documents that are longer than a row."""
        return int(np.count_nonzero(self.stream.counts > self.room + self.stream.separate))

    @property
    def labels(self) -> Int32[np.ndarray, " rows"] | None:
        """Each row's class, -1 for none; None where the source has no classes."""
        return None if self.stream.labels is None else self.stream.labels[self.documents]


def _path(folder: Path, part: int, kind: str) -> Path:
    return folder / f"{part:05d}.{kind}"


def _stored(tokenizer: TextTokenizer) -> np.dtype[Any]:
    return np.dtype(tokenizer.dtype).newbyteorder("<")


def _whole_parts(scratch: Path, tokenizer: TextTokenizer, identity: str, skip_errors: bool) -> Iterator[_Part]:
    """The parts of the same stream that are whole, up to the first that is not."""
    for number in range(len(list(scratch.glob("*.json")))):
        try:
            path = _path(scratch, number, "json")
            part = fields_of(unsealed(path, _KIND), _Part, str(path))
            sizes = {"ids": part.num_tokens * _stored(tokenizer).itemsize, "counts": 4 * part.num_documents}
            sizes |= {"labels": 4 * part.num_documents} if part.labelled else {}
            there = all(_path(scratch, number, kind).stat().st_size == size for kind, size in sizes.items())
        except (Damaged, FileNotFoundError):
            return
        if part.identity != identity or not there or (part.num_unreadable and not skip_errors):
            return
        yield part
        if part.last:
            return


@dataclass
class _Chunk:
    """Documents that are tokenised in one call, and then their ids."""

    texts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    num_characters: int = 0
    ends_part: bool = False
    last: bool = False
    ids: Any = None
    token_counts: Any = None

    def add(self, document: Document) -> None:
        """One more document."""
        self.texts.append(document.text)
        self.labels.append(_NO_LABEL if document.label is None else document.label)
        self.num_characters += len(document.text) + 1
        self.counts.num_documents += 1
        self.counts.num_empty += not document.text and not document.fault
        self.counts.num_unreadable += document.fault is not None
        self.counts.num_null_bytes += document.num_null_bytes
        self.counts.num_empty_lines += document.num_empty_lines


@dataclass
class _Writer:
    """Writes the parts of a stream that are not there yet: threads tokenise, another commits one part after another."""

    source: Source
    tokenizer: TextTokenizer
    scratch: Path
    separate: bool
    skip_errors: bool
    part_characters: int
    identity: str

    def write(self, whole: list[_Part], num_threads: int) -> list[_Part]:
        """The parts that follow those that are `whole`."""
        written: list[Future[_Part]] = []
        chunks: list[_Chunk] = []
        told = time.monotonic()
        start = sum(part.num_documents for part in whole)
        with _one_thread_a_call(), ThreadPoolExecutor(num_threads) as pool, ThreadPoolExecutor(1) as committer:
            for chunk in _in_order(pool, self._encode, self._chunks(start), num_threads + 2):
                chunks.append(chunk)
                if chunk.ends_part:
                    written.append(committer.submit(self._commit, len(whole) + len(written), chunks))
                    chunks = []
                    if len(written) > 1:
                        written[-2].result()  # no more than two parts are in memory
                    if time.monotonic() - told >= LINE_EVERY_S:
                        told = time.monotonic()
                        done = Counts(**_sum([*whole, *(part.result() for part in written[:-1])]))
                        print(f"tokenising: {done}", file=sys.stderr, flush=True)
            return [part.result() for part in written]

    def _chunks(self, start: int) -> Iterator[_Chunk]:
        assert self.source.documents is not None
        chunk, num_characters = _Chunk(), 0
        for document in self.source.documents(start):
            if document.fault and not self.skip_errors:
                raise BadInput(f"{document.fault}, or leave such documents out with --on_error skip")
            chunk.add(document)
            chunk.ends_part = num_characters + chunk.num_characters >= self.part_characters
            if chunk.ends_part or chunk.num_characters >= _CHUNK_CHARACTERS:
                num_characters = 0 if chunk.ends_part else num_characters + chunk.num_characters
                yield chunk
                chunk = _Chunk()
        chunk.ends_part = chunk.last = True
        yield chunk

    def _encode(self, chunk: _Chunk) -> _Chunk:
        texts = [text for text in chunk.texts if text]
        encoded = self.tokenizer.library.encode_batch_fast(texts, add_special_tokens=False)
        lists = iter([each.ids for each in encoded])
        ids = [next(lists) if text else [] for text in chunk.texts]
        if self.separate:
            ids = [[*each, self.tokenizer.sep_id] if each else each for each in ids]
        chunk.token_counts = np.fromiter(map(len, ids), "<u4", len(ids))
        chunk.counts.num_tokens = int(chunk.token_counts.sum())
        chunk.ids = np.fromiter(chain.from_iterable(ids), _stored(self.tokenizer), chunk.counts.num_tokens)
        chunk.texts = []
        return chunk

    def _commit(self, number: int, chunks: list[_Chunk]) -> _Part:
        labelled = self.source.class_names is not None
        files = {"ids": [chunk.ids for chunk in chunks], "counts": [chunk.token_counts for chunk in chunks]}
        if labelled:
            files["labels"] = [np.array(chunk.labels, "<i4") for chunk in chunks]
        for kind, arrays in files.items():
            write_atomically(_path(self.scratch, number, kind), np.concatenate(arrays).tobytes())
        counts = _sum(chunk.counts for chunk in chunks)
        part = _Part(**counts, identity=self.identity, labelled=labelled, last=chunks[-1].last)
        write_sealed(_path(self.scratch, number, "json"), {"kind": _KIND, "format": 1, **structs.asdict(part)})
        return part


def _sum(counts: Iterable[Counts]) -> dict[str, int]:
    listed = list(counts)
    return {name: sum(getattr(each, name) for each in listed) for name in Counts.__struct_fields__}


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[_Chunk], _Chunk], chunks: Iterable[_Chunk], num_ahead: int
) -> Iterator[_Chunk]:
    """What `function` makes of each chunk, in their order; no more than `num_ahead` wait."""
    waiting: deque[Future[_Chunk]] = deque()
    for chunk in chunks:
        waiting.append(pool.submit(function, chunk))
        if len(waiting) > num_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _one_thread_a_call() -> Iterator[None]:
    """The library tokenises each batch in the thread that calls it: as many run as there are callers."""
    before = os.environ.get(_LIBRARY_THREADS)
    os.environ[_LIBRARY_THREADS] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LIBRARY_THREADS]
        else:
            os.environ[_LIBRARY_THREADS] = before
