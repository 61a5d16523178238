"""Rows: the crc32c of each row of an array and of each member of a tar, as commit records hold them."""

import base64
import binascii
import functools
from collections.abc import Iterable, Mapping

import crc32c
import numpy as np
from jaxtyping import UInt8, UInt32

from shards.errors import RESTORE, Damaged

Checksums = dict[str, str]
"""By array, or by ending of a tar's members, each row's crc32c: little-endian uint32 in base64, six bytes a row."""

_TOGETHER = 32
"""Small rows that are checked by one call: a call a row takes longer than a row's bytes."""
_SMALL_BYTES, _FEW = 16 << 10, 8
"""Bytes of a row, and rows, from which on it does not pay, and up to which."""


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


def failing(rows: UInt8[np.ndarray, "count row_bytes"], sums: UInt32[np.ndarray, " count"]) -> list[int]:
    """The positions of the rows whose crc32c is not that of `sums`.

    Small rows are checked 32 at a time against the crc32c that theirs make together. It finds every one to three
    flipped bits (a short row's own finds up to five), every burst of up to 32 bits, and all else but for one in 2^32.
    """
    count, row_bytes = rows.shape
    suspects = list(range(count))
    if row_bytes < _SMALL_BYTES and count > _FEW and rows.flags.c_contiguous:
        flat, size, missing = rows.reshape(-1), _TOGETHER * row_bytes, -count % _TOGETHER
        ends = range((_TOGETHER - missing) * row_bytes, len(flat) + 1, size)  # the first run is the short one
        found = [crc32c.crc32c(flat[max(0, end - size) : end].data) for end in ends]
        runs = np.flatnonzero(_joined(sums, row_bytes) != np.array(found, np.uint32)).tolist()
        suspects = [row for run in runs for row in range(run * _TOGETHER - missing, (run + 1) * _TOGETHER - missing)]
    return [row for row in suspects if row >= 0 and crc32c.crc32c(rows[row]) != sums[row]]


def _joined(sums: UInt32[np.ndarray, " count"], row_bytes: int) -> UInt32[np.ndarray, " runs"]:
    """The crc32c of each 32 rows one after the other, from their own; the first run is the short one."""
    padded = np.zeros((-(-len(sums) // _TOGETHER), _TOGETHER), "<u4")  # the crc32c of no bytes is 0
    padded.reshape(-1)[-len(sums) :] = sums
    octets = padded.view(np.uint8).astype(np.intp)
    octets += np.arange(0, 4 * _TOGETHER * 256, 256)
    return np.bitwise_xor.reduce(_shifts(row_bytes).take(octets), axis=1)


@functools.cache
def _shifts(row_bytes: int) -> UInt32[np.ndarray, " entries"]:
    """What each octet of 32 crc32c adds to that of all rows; crc(A + B) is crc(A) shifted by len(B), xor crc(B).

    The shift is linear in the bits of crc(A) (Williams 1993, "A painless guide to CRC error detection algorithms",
    which zlib's crc32_combine follows): 32 words tell it, by crc(A + zeros) = shift(crc(A)) xor crc(zeros).
    """
    zeros, bits = bytes(row_bytes), [1 << bit for bit in range(32)]
    words = [bits]
    for _ in range(_TOGETHER - 1):
        words.append([crc32c.crc32c(zeros, word) ^ crc32c.crc32c(zeros) for word in words[-1]])
    of_bits = np.array(words[::-1], np.uint32).reshape(_TOGETHER, 4, 8)
    shifts = np.zeros((_TOGETHER, 4, 256), np.uint32)
    for bit in range(8):  # octets below 2^(bit + 1) are those below 2^bit, and these with the bit set
        shifts[..., 1 << bit : 2 << bit] = shifts[..., : 1 << bit] ^ of_bits[..., bit, None]
    return shifts.reshape(-1)
