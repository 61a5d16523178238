"""Keys: a sample's name by its number: a list in the plan, or computed from an array beside it.

13 million blocks of text would be a list of 300 MB of JSON; as 8 bytes each they are a file that is mapped.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np
from jaxtyping import Int, UInt32

from shards.errors import RESTORE, Damaged
from shards.identity import sha256_of

KEYS = "keys.npy"
"""Beside plan.json, of a view set whose keys are computed: uint32 (samples, 2), document and offset."""
_BLOCK = re.compile(r"(\d+)-(\d+)")


class BlockKeys(Sequence[str]):
    """`DOCUMENT-OFFSET` of each block: its first token's document, and where it stands among that document's tokens."""

    def __init__(self, places: UInt32[np.ndarray, "blocks 2"]) -> None:
        """`places` ascend; they are kept, not copied."""
        self.places = places

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "BlockKeys": ...

    def __getitem__(self, index: SupportsIndex | slice) -> "str | BlockKeys":
        if isinstance(index, slice):
            return BlockKeys(self.places[index])
        document, offset = self.places[index].tolist()
        return f"{document:08d}-{offset}"

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[str]:
        return (f"{document:08d}-{offset}" for document, offset in self.places.tolist())

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """The number of the block of that key; ValueError without one."""
        match = _BLOCK.fullmatch(value)
        if match:
            document, offset = map(int, match.groups())
            first, end = np.searchsorted(self.places[:, 0], [document, document + 1])
            number = int(first + np.searchsorted(self.places[first:end, 1], offset))
            if number < end and self[number] == value:
                return number
        raise ValueError(f"{value!r} is no key of these blocks")


def sha256_of_keys(keys: Sequence[str]) -> str:
    """The SHA-256 that an identity has of its keys: of the lines, or of the array."""
    if isinstance(keys, BlockKeys):
        return sha256_of(np.ascontiguousarray(keys.places, "<u4").data.cast("B"))
    return sha256_of("\n".join(keys).encode())


def check_listed(keys: Sequence[str], in_a_file: bool) -> None:
    """Raises ValueError unless there are keys, in a list or in a file, and each is text that UTF-8 can hold."""
    if not keys and not in_a_file:
        raise ValueError("keys cannot be []: there is none")
    try:
        "\n".join([] if isinstance(keys, BlockKeys) else keys).encode()
    except UnicodeEncodeError:
        raise ValueError("keys cannot hold half of a surrogate pair") from None


def positions(keys: Sequence[str], wanted: Iterable[str]) -> Int[np.ndarray, " count"]:
    """The numbers of the keys `wanted`, ascending; what is no key is left out."""
    names = set(wanted)
    if isinstance(keys, BlockKeys):
        return np.sort(np.array([keys.index(name) for name in names], np.int64))
    return np.array([number for number, key in enumerate(keys) if key in names] if names else [], np.int64)


def keys_bytes(keys: Sequence[str]) -> bytes | None:
    """The file that `read_keys` reads; None of keys that the plan lists."""
    if not isinstance(keys, BlockKeys):
        return None
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(keys.places, "<u4"), allow_pickle=False)
    return buffer.getvalue()


def read_keys(path: Path) -> BlockKeys:
    """The keys that were written to `path`, mapped; Damaged where it holds none."""
    try:
        places = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: holds no keys ({error}); {RESTORE}") from None
    if places.dtype != np.dtype("<u4") or places.ndim != 2 or places.shape[1] != 2 or len(places) == 0:
        raise Damaged(f"{path}: holds {places.dtype} {places.shape}, expected uint32 (samples, 2); {RESTORE}")
    return BlockKeys(places)
