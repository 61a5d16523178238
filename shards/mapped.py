"""Mapped: all shard objects of one array and view in one range of addresses, so that one call gathers from any of them.

With a mapping of its own for each shard, a shuffled batch of 256 logits needs several small numpy operations for each
of the hundred shards it touches, ten times the copy itself. One range makes the batch a single `np.take`.
"""

import ctypes
import errno
import math
import mmap
import os
import threading
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8, UInt32

from shards.errors import RESTORE, BadInput, Damaged
from shards.rows import check_row, failing
from shards.zarrs import CRC_BYTES, ArraySpec, checked_object

_MAP_FIXED = 0x10  # Linux and macOS alike; Python's mmap module does not name it
_HUGE_PAGE = 2 << 20
_MINCORE = ctypes.PyDLL(None).mincore
_MINCORE.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_NEAR_PAGES = 16
_NO_POSITIONS = np.empty(0, np.int64)


class MappedArray:
    """One array of one view: its uncompressed shard objects are mapped as they are opened, each in its own slot.

    Where a shard is a single chunk (logits, top-k) a slot is a whole number of rows wide, so that a row's place in
    memory is a row number. Where it is many (dense rows) a slot is a whole number of huge pages, as the page cache
    holds large files in: with 4 kB pages a tenth to a third of a copy goes into looking up addresses. Any number of
    threads may gather.
    """

    def __init__(self, spec: ArraySpec) -> None:
        self.spec = spec
        self._num_shards = -(-spec.num_samples // spec.shard_size)
        unit = math.lcm(mmap.ALLOCATIONGRANULARITY, spec.row_bytes) if spec.num_chunks == 1 else _HUGE_PAGE
        self._slot_bytes = -(-spec.object_bytes(spec.object_rows) // unit) * unit
        size = self._num_shards * self._slot_bytes
        try:
            # addresses, no memory: PROT_NONE, so that reading what was not opened ends the process, not in zeros
            addresses = mmap.mmap(-1, size + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
        except (OSError, OverflowError) as error:
            raise Damaged(f"array {spec.name!r} would be {size} bytes, more than there are addresses here") from error
        memory = np.frombuffer(addresses, np.uint8)
        memory.flags.writeable = False
        start = -memory.ctypes.data % _HUGE_PAGE
        self._memory = memory[start : start + size]
        self._opened: set[int] = set()
        self._lock = threading.Lock()
        whole_rows = size // spec.row_bytes
        self._rows = self._memory[: whole_rows * spec.row_bytes].reshape(whole_rows, spec.row_bytes)
        self._gap_rows = self._slot_bytes // spec.row_bytes - spec.shard_size
        places = (self._num_shards, spec.num_chunks, spec.chunk_rows, spec.row_bytes)
        strides = (self._slot_bytes, spec.chunk_bytes + CRC_BYTES, spec.row_bytes, 1)
        self._places = np.lib.stride_tricks.as_strided(self._memory, places, strides, writeable=False)
        self._rows_a_page = max(1, mmap.PAGESIZE // spec.row_bytes)
        self._paths: dict[int, Path] = {}
        self._sums = np.zeros(spec.num_samples, np.uint32)
        self._by_row = np.zeros(spec.num_samples, bool)
        """Rows with a checksum of their own; the others were checked with their whole shard."""
        self._unseen, self.num_unseen = np.zeros(spec.num_samples, bool), 0
        """Rows of opened shards that have a checksum of their own and were not read yet, and how many these are."""
        self._told = bytearray(self._num_shards)
        """Shards of which the kernel tells this user what is in memory."""
        self._address, self._chunk_rows = self._memory.ctypes.data, spec.chunk_rows

    def unopened(self, samples: Int[np.ndarray, " count"]) -> list[int]:
        """The shards of `samples` that must be opened before those can be read."""
        if len(self._opened) == self._num_shards:
            return []
        return [shard for shard in np.unique(samples // self.spec.shard_size).tolist() if shard not in self._opened]

    def open(self, shard: int, path: Path, checksums: UInt32[np.ndarray, " rows"] | None = None) -> None:
        """The shard object at `path` can be read; Damaged when its index is not one that this array can have.

        With the crc32c of each row nothing is read now: the rows lie where this array's must, or fail theirs.
        """
        spec = self.spec
        if checksums is None:
            checked_object(path, spec, spec.num_rows(shard))
        elif (size := path.stat().st_size) != spec.object_bytes(spec.num_rows(shard)):
            raise Damaged(f"{path}: {size} bytes, which no shard of this array has; {RESTORE}")
        else:
            self._told[shard] = os.geteuid() in (0, path.stat().st_uid) or os.access(path, os.W_OK)
        with self._lock:
            if shard in self._opened:
                return
            self._map(shard, path)
            if checksums is not None:
                rows = slice(shard * spec.shard_size, shard * spec.shard_size + len(checksums))
                self._sums[rows], self._by_row[rows], self._paths[shard] = checksums, True, path
                self._unseen[rows] = True
                self.num_unseen += len(checksums)
            self._opened.add(shard)

    def _map(self, shard: int, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        address = self._memory.ctypes.data + shard * self._slot_bytes
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > self._slot_bytes:
                raise Damaged(f"{path}: larger than a shard of this array is; {RESTORE}")
            # the whole slot, though the file ends before it: a hole would count as a mapping of its own
            flags = mmap.MAP_SHARED | _MAP_FIXED
            mapped_at = libc.mmap(address, self._slot_bytes, mmap.PROT_READ, flags, file.fileno(), 0)
        if mapped_at != address:
            number = ctypes.get_errno()
            if number == errno.ENOMEM:
                raise BadInput(f"{path}: the kernel maps no more files; raise vm.max_map_count (sysctl) and run again")
            raise OSError(number, os.strerror(number), str(path))

    def cold(self, samples: Int[np.ndarray, " count"]) -> Int[np.ndarray, " cold"]:
        """The positions in `samples` of rows that a copy from memory would wait for, as the kernel tells.

        A row smaller than a page is asked for once: asking takes longer than its copy.
        """
        small = self.spec.row_bytes < mmap.PAGESIZE
        if not self.num_unseen if small else self._all_in_memory(samples):
            return _NO_POSITIONS
        positions = np.flatnonzero((self._unseen if small else self._by_row)[_numbers(samples)])
        in_memory = [self._all_in_memory(samples[position : position + 1]) for position in positions.tolist()]
        return positions[~np.array(in_memory, bool)]

    def _all_in_memory(self, samples: Int[np.ndarray, " count"]) -> bool:
        """The usual answer, in few steps: between two copies neither code nor data are in the processor's cache."""
        first, last = int(samples[0]), int(samples[-1])
        size = self.spec.shard_size
        follow, spans = last - first == len(samples) - 1 and first // size == last // size, list[list[int]]()
        for sample in (first, last) if follow else samples.tolist():
            shard, row = divmod(sample, size)
            if not self._told[shard]:
                return False
            page, end = self._pages(shard, row)
            # rows that lie close together are one question: the kernel takes longer to be asked than to answer
            if spans and (follow or page - spans[-1][1] <= _NEAR_PAGES):
                spans[-1][1] = end
            else:
                spans.append([page, end])
        resident = np.empty(sum(end - page for page, end in spans), np.uint8)
        to = resident.ctypes.data
        for page, end in spans:
            if _MINCORE(self._address + page * mmap.PAGESIZE, (end - page) * mmap.PAGESIZE, to) != 0:
                return False
            to += end - page
        return bool((resident & 1).all())

    def _pages(self, shard: int, row: int) -> tuple[int, int]:
        """The pages of a row, from and to, counted from the first slot's start."""
        start = shard * self._slot_bytes + row // self._chunk_rows * CRC_BYTES + row * self.spec.row_bytes
        return start // mmap.PAGESIZE, -(-(start + self.spec.row_bytes) // mmap.PAGESIZE)

    def check(
        self, samples: Int[np.ndarray, " count"], rows: UInt8[np.ndarray, "count row_bytes"], all_rows: bool
    ) -> None:
        """Damaged where a row fails its crc32c; without `all_rows` those that were read before are left out."""
        numbers = _numbers(samples)
        wanted, sums = (self._by_row if all_rows else self._unseen)[numbers], self._sums[numbers]
        positions = np.arange(len(samples)) if wanted.all() else np.flatnonzero(wanted)
        some = rows if len(positions) == len(samples) else rows[positions]
        for position in positions[failing(some, sums[positions])].tolist():
            shard, row = divmod(int(samples[position]), self.spec.shard_size)
            where = f"{self._paths[shard]}: row {row} (sample {samples[position]})"
            check_row(where, rows[position].data, int(sums[position]))
        if self.num_unseen:
            with self._lock:
                self.num_unseen -= int(np.count_nonzero(self._unseen[numbers]))
                self._unseen[numbers] = False

    def gather(self, samples: Int[np.ndarray, " count"], out: UInt8[np.ndarray, "count row_bytes"]) -> None:
        """Copy the rows of `samples` (strictly ascending, at least one, their shards opened) into `out`.

        No loop over small rows holds the interpreter lock.
        """
        spec, count, first = self.spec, len(samples), int(samples[0])
        if int(samples[-1]) - first == count - 1:  # they follow each other: one copy a chunk
            number, start = divmod(first, spec.chunk_rows)
            done = 0
            while done < count:
                rows = self._places[divmod(number, spec.num_chunks)][start : start + count - done]
                rows[:: self._rows_a_page, 0].copy()  # touches every page first: the processor fetches many at once
                out[done : done + len(rows)] = rows
                done += len(rows)
                number, start = number + 1, 0
        elif spec.num_chunks == 1:
            numbers = samples + samples // spec.shard_size * self._gap_rows
            self._rows[numbers, 0]  # as above
            # mode="clip" because the default mode copies through a buffer; every number is in bounds
            np.take(self._rows, numbers, axis=0, out=out, mode="clip")
        else:
            shards, rows = np.divmod(samples, spec.shard_size)
            chunks, rows = np.divmod(rows, spec.chunk_rows)
            if spec.row_bytes < mmap.PAGESIZE:
                out[:] = self._places[shards, chunks, rows]
                return
            for position, place in enumerate(zip(shards.tolist(), chunks.tolist(), rows.tolist(), strict=True)):
                out[position] = self._places[place]


def _numbers(samples: Int[np.ndarray, " count"]) -> Int[np.ndarray, " count"] | slice:
    """What takes `samples` (strictly ascending) of an array, without a copy where they follow each other."""
    first, last = int(samples[0]), int(samples[-1])
    return slice(first, last + 1) if last - first == len(samples) - 1 else samples
