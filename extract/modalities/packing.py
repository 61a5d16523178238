"""Packing: a corpus becomes a scratch stream of token ids, once.

The stream is cut by characters into parts of whole documents, so that its bytes depend neither on threads nor on where
a run was killed. A part is committed by its record, which is written last; the last part's record says that it is.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from extract.modalities.token_stream import Counts, Part, Stream, add_up, part_path, stored_type
from extract.modalities.tokenizer import TextTokenizer
from extract.sources.base import Document, Source
from shards.ahead import ahead
from shards.command.progress import LINE_EVERY_S, counted
from shards.commit import make_folder, remove_leftovers, write_atomically, write_sealed
from shards.errors import BadInput, Damaged
from shards.identity import identity_hash
from shards.sealed import fields_of, unsealed

PART_CHARACTERS = 32 << 20
_CHUNK_CHARACTERS = 1 << 18
_KIND = "tokens"
_NO_LABEL = -1
_LIBRARY_THREADS = "TOKENIZERS_PARALLELISM"


def tokenise(
    source: Source,
    tokenizer: TextTokenizer,
    scratch: Path,
    num_threads: int,
    skip_errors: bool = False,
    part_characters: int = PART_CHARACTERS,
) -> Stream:
    """The content ids of every document of `source`, in `scratch`, where the whole parts of a killed run stay.

    A document that cannot be read raises BadInput, or is an empty one with `skip_errors`; so does a corpus without a
    text.
    """
    identity = identity_hash(
        {
            "source": [source.name, source.split, source.revision, source.class_names],
            "tokenizer": [tokenizer.vocabulary.describe(), tokenizer.library.to_str()],
            "cut": part_characters,
        }
    )
    make_folder(scratch)
    remove_leftovers(scratch)
    parts = list(_whole_parts(scratch, tokenizer, identity, skip_errors))
    if not (parts and parts[-1].last):
        for leftover in scratch.glob("[0-9]*.*"):
            if int(leftover.stem) >= len(parts):
                leftover.unlink()
        writer = _Writer(source, tokenizer, scratch, skip_errors, part_characters, identity)
        try:
            parts += writer.write(parts, num_threads)
        except BadInput:
            if not any(scratch.iterdir()):  # nothing is left where nothing was written
                scratch.rmdir()
            raise
    stream = Stream(tokenizer, scratch, parts)
    if stream.num_tokens == 0:
        shutil.rmtree(scratch)
        raise BadInput(f"--data: split {source.split} of {source.name} holds no text: give other data")
    return stream


def _whole_parts(scratch: Path, tokenizer: TextTokenizer, identity: str, skip_errors: bool) -> Iterator[Part]:
    """The parts of the same stream that are whole, up to the first that is not."""
    for number in range(len(list(scratch.glob("*.json")))):
        try:
            path = part_path(scratch, number, "json")
            part = fields_of(unsealed(path, _KIND), Part, str(path))
            sizes = {"ids": part.num_tokens * stored_type(tokenizer).itemsize, "counts": 4 * part.num_documents}
            sizes |= {"labels": 4 * part.num_documents} if part.labelled else {}
            there = all(part_path(scratch, number, kind).stat().st_size == size for kind, size in sizes.items())
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
    skip_errors: bool
    part_characters: int
    identity: str

    def write(self, whole: list[Part], num_threads: int) -> list[Part]:
        """The parts that follow those that are `whole`."""
        written: list[Future[Part]] = []
        chunks: list[_Chunk] = []
        told = time.monotonic()
        start = sum(part.num_documents for part in whole)
        with _one_thread_a_call(), ThreadPoolExecutor(num_threads) as pool, ThreadPoolExecutor(1) as committer:
            for chunk in ahead(pool, self._encode, self._chunks(start), num_threads + 2):
                chunks.append(chunk)
                if chunk.ends_part:
                    written.append(committer.submit(self._commit, len(whole) + len(written), chunks))
                    chunks = []
                    if len(written) > 1:
                        written[-2].result()  # no more than two parts are in memory
                    if time.monotonic() - told >= LINE_EVERY_S:
                        told = time.monotonic()
                        done = Counts(**add_up([*whole, *(part.result() for part in written[:-1])]))
                        counts = f"{counted(done.num_documents, 'document')}, {counted(done.num_tokens, 'token')}"
                        print(f"extract: tokenising: {counts}", file=sys.stderr, flush=True)
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
        chunk.token_counts = np.fromiter(map(len, ids), "<u4", len(ids))
        chunk.counts.num_tokens = int(chunk.token_counts.sum())
        chunk.ids = np.fromiter(chain.from_iterable(ids), stored_type(self.tokenizer), chunk.counts.num_tokens)
        chunk.texts = []
        return chunk

    def _commit(self, number: int, chunks: list[_Chunk]) -> Part:
        labelled = self.source.class_names is not None
        files = {"ids": [chunk.ids for chunk in chunks], "counts": [chunk.token_counts for chunk in chunks]}
        if labelled:
            files["labels"] = [np.array(chunk.labels, "<i4") for chunk in chunks]
        for kind, arrays in files.items():
            write_atomically(part_path(self.scratch, number, kind), np.concatenate(arrays).tobytes())
        counts = add_up(chunk.counts for chunk in chunks)
        part = Part(**counts, identity=self.identity, labelled=labelled, last=chunks[-1].last)
        write_sealed(part_path(self.scratch, number, "json"), {"kind": _KIND, "format": 1, **structs.asdict(part)})
        return part


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
