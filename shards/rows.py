"""Rows: the crc32c of each row of an array and of each member of a tar, as commit records hold them."""

import base64
import binascii
from collections.abc import Iterable, Mapping

import crc32c
import numpy as np
from jaxtyping import UInt32

from shards.errors import RESTORE, Damaged

Checksums = dict[str, str]
"""By array, or by ending of a tar's members, each row's crc32c: little-endian uint32 in base64, six bytes a row."""


def checksums_of(rows: Iterable[bytes | memoryview]) -> str:
    """The crc32c of each of `rows`, as a commit record holds them."""
    sums = np.array([crc32c.crc32c(row) for row in rows], "<u4")
    return base64.b64encode(sums.tobytes()).decode()


def row_checksums(
    where: object, recorded: Mapping[str, str] | None, name: str, num_rows: int
) -> UInt32[np.ndarray, " rows"] | None:
    """The crc32c of each row of `name`; None where the commit record `where` has none, as those of before.

    Damaged where they are not of so many rows.
    """
    if recorded is None or name not in recorded:
        return None
    try:
        sums = np.frombuffer(base64.b64decode(recorded[name], validate=True), "<u4")
    except (binascii.Error, ValueError):
        sums = np.empty(0, "<u4")
    if len(sums) != num_rows:
        raise Damaged(f"{where}: its checksums of {name} are not those of {num_rows} rows; {RESTORE}")
    return sums


def check_row(where: str, content: bytes | bytearray | memoryview, checksum: int) -> None:
    """Damaged, beginning with `where`, unless the crc32c of `content` is `checksum`."""
    if crc32c.crc32c(content) != checksum:
        raise Damaged(f"{where} fails its crc32c: it was altered after it was written; {RESTORE}")
