"""Documents: how any source of text reads, cleans and refuses one; nothing here keeps more than one in memory."""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from extract.sources.base import Document
from shards.command.progress import human_bytes

MAX_DOCUMENT_BYTES = 8 << 20
"""A larger document is refused: its tokens would take a gigabyte while they are made. The Bible has 4 MB."""
_PIECE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_SUSPECT = re.compile(r"[\0\r\ud800-\udfff]|\n\s*\n|^\s|\s$")
"""A text without a match is clean already."""
_HALF_PAIR = re.compile("[\ud800-\udfff]")
"""JSON may hold half of a surrogate pair, which no UTF-8 can."""


def read_document(where: str, data: bytes, label: int | None = None) -> Document:
    """A document that is stored as UTF-8, cleaned; `where` names it in the fault that it has otherwise."""
    if len(data) > MAX_DOCUMENT_BYTES:
        return too_large(where, label)
    try:
        return cleaned(data.removeprefix(_BOM).decode(), label)
    except UnicodeDecodeError as error:
        offset = error.start + len(_BOM) * data.startswith(_BOM)
        return _not_utf8(where, offset, data[offset], label)


def cleaned(text: str, label: int | None = None) -> Document:
    """`text` without null bytes and empty lines, its lines ended as on Unix, and how many of them it had."""
    if _SUSPECT.search(text) is None:
        return Document(text, label)
    num_null_bytes = text.count("\0")
    lines = _HALF_PAIR.sub("\ufffd", text.replace("\0", "")).replace("\r\n", "\n").removesuffix("\n").split("\n")
    kept = [line for line in lines if line and not line.isspace()]
    num_empty_lines = len(lines) - len(kept) if kept else 0  # of an empty document none is counted
    return Document("\n".join(kept), label, None, num_null_bytes, num_empty_lines)


def too_large(where: str, label: int | None = None) -> Document:
    """The fault of a document that is larger than any may be."""
    limit = human_bytes(MAX_DOCUMENT_BYTES)
    return Document("", label, f"{where} is longer than {limit}, the most for one document: split it")


def read_lines(flag: str, path: Path) -> Iterator[str | Document]:
    """Each line of a UTF-8 file as it is stored, without its ending; a document with a fault where it is not readable.

    No more than MAX_DOCUMENT_BYTES of a line are in memory.
    """
    with path.open("rb") as stream:
        end = 0
        for number in count(1):
            line = stream.readline(MAX_DOCUMENT_BYTES + 2)
            if not line:
                return
            start, end = end, end + len(line)
            if not line.endswith(b"\n") and len(line) > MAX_DOCUMENT_BYTES:
                while piece := stream.readline(_PIECE_BYTES):
                    end += len(piece)
                    if piece.endswith(b"\n"):
                        break
                yield too_large(f"{flag}: line {number} of {path.name}")
                continue
            if start == 0 and line.startswith(_BOM):
                start, line = len(_BOM), line.removeprefix(_BOM)
            try:
                yield line.decode().removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                yield _not_utf8(f"{flag}: {path.name}", start + error.start, line[error.start])


def _not_utf8(where: str, offset: int, byte: int, label: int | None = None) -> Document:
    return Document("", label, f"{where}: byte {offset:,} ({byte:#04x}) is not UTF-8: convert it to UTF-8")
