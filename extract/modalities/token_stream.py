"""Token stream: rows of token ids, cut from the stream of a tokenised corpus: blocks of one length, or single texts.

The stream lies in parts of whole documents (see packing.py): ids, token counts, labels, and a record. Ids are
mapped, never loaded whole; 12 bytes a document are in memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Int32, Integer, UInt32

from extract.modalities.tokenizer import TextTokenizer
from shards.command.progress import counted

_KEYS_AT_ONCE = 1 << 20
_MOST_MAPS = 16
"""Each takes a file descriptor, of which a process may have 256."""


class Counts(msgspec.Struct, kw_only=True):
    """What a part, or the whole stream, holds, and what was left out of it."""

    num_documents: int = 0
    num_tokens: int = 0
    num_empty: int = 0
    """Documents without a text, those that cannot be read aside."""
    num_unreadable: int = 0
    num_null_bytes: int = 0
    num_empty_lines: int = 0

    @property
    def left_out(self) -> str:
        """What was left out, counted in one clause; empty where nothing was."""
        kinds = (
            (self.num_empty, "empty document"),
            (self.num_empty_lines, "empty line"),
            (self.num_null_bytes, "null byte"),
            (self.num_unreadable, "unreadable document"),
        )
        return ", ".join(counted(number, noun) for number, noun in kinds if number)


class Part(Counts, kw_only=True):
    """The record of a part that is whole."""

    identity: str
    labelled: bool
    last: bool


@dataclass(frozen=True)
class Stream:
    """A tokenised corpus."""

    tokenizer: TextTokenizer
    folder: Path
    parts: list[Part]

    @cached_property
    def total(self) -> Counts:
        """The counts of the whole stream."""
        return Counts(**add_up(self.parts))

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for the user on what was left out, if anything was."""
        return (f"--data: left out {self.total.left_out}",) if self.total.left_out else ()

    @property
    def num_documents(self) -> int:
        """Empty ones included."""
        return self.total.num_documents

    @property
    def num_tokens(self) -> int:
        """Without [CLS]."""
        return self.total.num_tokens

    @cached_property
    def counts(self) -> UInt32[np.ndarray, " documents"]:
        """How many tokens each document has."""
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

    def gather(self, positions: Integer[np.ndarray, "rows room"]) -> Integer[np.ndarray, "rows room"]:
        """The ids at `positions` of the stream; few parts are read where these lie close together."""
        parts = np.searchsorted(self._part_starts, positions, "right") - 1
        gathered = np.empty(positions.shape, self.tokenizer.dtype)
        for part in np.unique(parts).tolist():
            inside = parts == part
            gathered[inside] = self._mapped(part)[positions[inside] - self._part_starts[part]]
        return gathered

    def _mapped(self, part: int) -> Integer[np.ndarray, " tokens"]:
        ids = self._maps.get(part)
        if ids is None:
            if len(self._maps) >= _MOST_MAPS:
                self._maps.clear()
            path, shape = part_path(self.folder, part, "ids"), (self.parts[part].num_tokens,)
            ids = self._maps[part] = np.memmap(path, stored_type(self.tokenizer), "r", shape=shape)
        return ids

    @cached_property
    def _maps(self) -> dict[int, Any]:
        return {}

    def blocks(self, size: int) -> "Blocks":
        """Rows of `size` tokens: [CLS], the next size - 2 tokens of the stream, [SEP]; the last one is padded."""
        return Blocks(self, size)

    def texts(self, size: int) -> "Texts":
        """A row of `size` tokens for each document that has a text, cut off or padded."""
        return Texts(self, size)

    def _concatenated(self, kind: str, dtype: str) -> Any:
        return np.concatenate(
            [np.fromfile(part_path(self.folder, part, kind), dtype) for part in range(len(self.parts))]
        )


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

    def fields(self, index: int) -> dict[str, np.ndarray]:
        """A view's fields: the ids of one row, padded, and its length without padding."""
        tokens, lengths = self.rows(index, index + 1)
        return {"tokens": tokens[0], "length": lengths[0, ...]}


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
        return np.minimum(self.room, self.stream.counts[self.documents[start:stop]].astype(np.int64))

    @property
    def num_truncated(self) -> int:
        """Documents that are longer than a row."""
        return int(np.count_nonzero(self.stream.counts > self.room))

    @property
    def labels(self) -> Int32[np.ndarray, " rows"] | None:
        """Each row's class, -1 for none; None where the source has no classes."""
        return None if self.stream.labels is None else self.stream.labels[self.documents]


def part_path(folder: Path, part: int, kind: str) -> Path:
    """Where a part's `ids`, `counts` or `labels` lie, or its record, `json`."""
    return folder / f"{part:05d}.{kind}"


def stored_type(tokenizer: TextTokenizer) -> np.dtype[Any]:
    """The type of ids on the disk: little-endian on any machine."""
    return np.dtype(tokenizer.dtype).newbyteorder("<")


def add_up(counts: Iterable[Counts]) -> dict[str, int]:
    """The sum of each count, by its name."""
    listed = list(counts)
    return {name: sum(getattr(each, name) for each in listed) for name in Counts.__struct_fields__}
