"""Zarr v3 arrays of a target set: their metadata, a shard object as one write, and the same object mapped to be read.

A shard object is its inner chunks one after the other, each followed by its crc32c, then the index: little-endian
uint64 (offset, size) a chunk, and the index's own crc32c (zarr v3 specification, "sharding-indexed" codec 1.0).
"""

import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
from jaxtyping import Shaped, UInt8

from shards.documents import TargetSetManifest
from shards.errors import Damaged

MAX_ROW_BYTES = 256 << 20
MAX_ROWS = 1 << 40
CHUNK_BYTES = 5 << 20
PADDED_AT_MOST = 1.2
"""Stored bytes of an array over those of its rows, as far as checksums and indices of tiny shards allow."""
CRC_BYTES = 4
_INDEX_ENTRY_BYTES = 16
_ABSENT = np.uint64(2**64 - 1)
DTYPES = ("float16", "float32", "int8", "uint8", "uint16", "int32", "uint32", "int64")


@dataclass(frozen=True)
class ArraySpec:
    """One zarr array of a target set: shape (views, samples, *row_shape), one shard object a (view, shard)."""

    name: str
    dtype: str
    row_shape: tuple[int, ...]
    num_samples: int
    shard_size: int
    layout: tuple[int, int] | None = None
    """Rows that a shard object has room for, and rows of an inner chunk; None for `default_layout`."""
    below: int | None = None
    """What every number of it is below: numbers that index classes, centroids or tokens; None where any may be."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise Damaged(f"array {self.name!r} has the data type {self.dtype!r}; known are {', '.join(DTYPES)}")
        sizes = (*self.row_shape, self.num_samples, self.shard_size)
        if any(size < 1 for size in sizes) or max(self.num_samples, self.shard_size) > MAX_ROWS:
            raise Damaged(f"array {self.name!r} has the absurd shape {sizes}")
        if self.row_bytes > MAX_ROW_BYTES:
            raise Damaged(f"array {self.name!r} has rows of {self.row_bytes} bytes; at most {MAX_ROW_BYTES} are read")
        if self.layout is not None:
            object_rows, chunk_rows = self.layout
            roomy = object_rows in (self.shard_size, self.num_samples) and object_rows >= self.num_rows(0)
            small = 1 <= chunk_rows <= max(1, CHUNK_BYTES // self.row_bytes)
            if not (roomy and object_rows <= self.shard_size and small and object_rows % chunk_rows == 0):
                raise Damaged(f"array {self.name!r} has the absurd layout {self.layout}")

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one sample's row."""
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize

    def beyond(self, rows: UInt8[np.ndarray, "count row_bytes"]) -> tuple[int, int] | None:
        """The first row with a number that is not below `below`, and its largest number; None where all are."""
        unsigned = np.dtype(f"u{np.dtype(self.dtype).itemsize}")
        if self.below is None or self.below > np.iinfo(unsigned).max or len(rows) == 0:
            return None
        numbers = rows.view(unsigned)  # of a negative number a large one
        if numbers.max() < self.below:
            return None
        row = int((numbers >= self.below).any(1).argmax())
        return row, int(numbers[row].max())

    @cached_property
    def default_layout(self) -> tuple[int, int]:
        """Room for a whole shard, in inner chunks of the largest divisor of the shard size under 5 MiB.

        16 rows of 197 x 768 float16; small outputs (logits) have the whole shard as one chunk.
        """
        return self.shard_size, _divisors(self.shard_size, CHUNK_BYTES // self.row_bytes)[0]

    @property
    def object_rows(self) -> int:
        """Rows that a shard object has room for: fewer than the shard size where all samples are fewer."""
        return (self.layout or self.default_layout)[0]

    @property
    def chunk_rows(self) -> int:
        """Rows of an inner chunk."""
        return (self.layout or self.default_layout)[1]

    @property
    def num_chunks(self) -> int:
        """Inner chunks that a shard object has room for."""
        return self.object_rows // self.chunk_rows

    @property
    def chunk_bytes(self) -> int:
        """Bytes of an inner chunk, its checksum left out."""
        return self.chunk_rows * self.row_bytes

    def row_offset(self, row: int) -> int:
        """Where a row of a shard begins in its object, in bytes."""
        chunk, place = divmod(row, self.chunk_rows)
        return chunk * (self.chunk_bytes + CRC_BYTES) + place * self.row_bytes

    def object_bytes(self, num_rows: int) -> int:
        """Bytes of the object of a shard of `num_rows`: its chunks with their checksums, the index with its own."""
        used = -(-num_rows // self.chunk_rows)
        return used * (self.chunk_bytes + CRC_BYTES) + self.num_chunks * _INDEX_ENTRY_BYTES + CRC_BYTES

    @property
    def view_bytes(self) -> int:
        """Bytes of one view's objects."""
        whole, rest = divmod(self.num_samples, self.shard_size)
        return whole * self.object_bytes(self.shard_size) + (self.object_bytes(rest) if rest else 0)

    def num_rows(self, shard: int) -> int:
        """Rows of one shard: the last one may be short."""
        return min(self.shard_size, self.num_samples - shard * self.shard_size)

    def shard_path(self, view: int, shard: int) -> str:
        """The shard object's path relative to the target set."""
        return f"{self.name}/c/{view}/{shard}" + "/0" * len(self.row_shape)

    def metadata(self, num_views: int) -> dict[str, Any]:
        """The array's zarr.json: sharded, little-endian, crc32c a chunk, no compression."""
        little = (
            {"name": "bytes", "configuration": {"endian": "little"}}
            if np.dtype(self.dtype).itemsize > 1
            else {"name": "bytes"}
        )
        inner = {
            "chunk_shape": [1, self.chunk_rows, *self.row_shape],
            "codecs": [little, {"name": "crc32c"}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [num_views, self.num_samples, *self.row_shape],
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, self.object_rows, *self.row_shape]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "sharding_indexed", "configuration": inner}],
            "attributes": {},
            "storage_transformers": [],
        }


def metadata_bytes(metadata: dict[str, Any]) -> bytes:
    """A zarr.json document as bytes; equal metadata gives equal bytes."""
    return (json.dumps(metadata, indent=1) + "\n").encode()


def _divisors(number: int, limit: int) -> list[int]:
    """The divisors of `number` up to `limit`, falling; 1 at least."""
    return [size for size in range(max(1, min(limit, number)), 0, -1) if number % size == 0]


def without_padding(spec: ArraySpec) -> ArraySpec:
    """`spec`, or where that would store more than 1.2 times the payload, the array with less padding of its last chunk.

    The default pads the last shard to a whole chunk: 64 logits would be stored as 512. With few samples the object has
    room for those alone; else the largest inner chunk is taken that wastes little, the one that wastes least if none.
    """
    limit = PADDED_AT_MOST * spec.num_samples * spec.row_bytes
    if spec.view_bytes <= limit:
        return spec
    rows = min(spec.shard_size, spec.num_samples)
    sizes = _divisors(rows, CHUNK_BYTES // spec.row_bytes)
    specs = [spec, *(replace(spec, layout=(rows, size)) for size in sizes)]
    return next((each for each in specs if each.view_bytes <= limit), min(specs, key=lambda each: each.view_bytes))


def specs_of(manifest: TargetSetManifest) -> dict[str, ArraySpec]:
    """The arrays that a target set's manifest lists, by name; Damaged where one makes no sense."""
    counts, layouts, belows = (manifest.num_samples, manifest.shard_size), manifest.layouts or {}, _belows(manifest)
    return {
        name: ArraySpec(name, dtype, tuple(row_shape), *counts, layouts.get(name), belows.get(name))
        for name, (dtype, row_shape) in manifest.arrays.items()
    }


def _belows(manifest: TargetSetManifest) -> dict[str, int]:
    """How many things there are that the numbers of an array index, by the names that codecs give such arrays."""
    belows = {"classes": manifest.row_shape[-1], "positions": manifest.row_shape[0]}
    num_centroids = manifest.identity["codec"].get("centroids")
    return belows | ({"codes": num_centroids} if isinstance(num_centroids, int) else {})


def group_bytes(attributes: dict[str, Any]) -> bytes:
    """The zarr.json of a target set's group."""
    return metadata_bytes({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def pack(spec: ArraySpec, rows: Shaped[np.ndarray, "rows ..."]) -> bytearray:
    """The shard object that holds `rows` (the last shard may be short: its last chunk is padded with zeros)."""
    if rows.shape[1:] != spec.row_shape or rows.dtype != np.dtype(spec.dtype) or not 0 < len(rows) <= spec.object_rows:
        raise ValueError(f"array {spec.name}: got {rows.dtype} {rows.shape}, expected {spec.dtype} {spec.row_shape}")
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    chunk_bytes = spec.chunk_bytes
    used = -(-len(rows) // spec.chunk_rows)
    body = np.zeros((used, chunk_bytes + CRC_BYTES), np.uint8)
    index = np.full((spec.num_chunks, 2), _ABSENT, "<u8")
    for chunk in range(used):
        part = flat[chunk * spec.chunk_rows : (chunk + 1) * spec.chunk_rows].reshape(-1)
        body[chunk, : len(part)] = part
        body[chunk, chunk_bytes:] = np.frombuffer(_checksum(body[chunk, :chunk_bytes].data), np.uint8)
        index[chunk] = (chunk * (chunk_bytes + CRC_BYTES), chunk_bytes + CRC_BYTES)
    packed = bytearray(body.data.cast("B"))
    packed += index.tobytes() + _checksum(index.tobytes())
    return packed


def checked_object(path: Path, spec: ArraySpec, num_rows: int) -> np.ndarray:
    """The shard object at `path`, mapped; Damaged where its index is not the one that `pack` writes for `num_rows`."""
    index_bytes = spec.num_chunks * _INDEX_ENTRY_BYTES
    if (size_bytes := path.stat().st_size) < index_bytes + CRC_BYTES:
        raise Damaged(f"{path}: {size_bytes} bytes are too few for its index; python -m shards verify")
    data = np.memmap(path, np.uint8, mode="r")
    index, checksum = data[-index_bytes - CRC_BYTES : -CRC_BYTES], data[-CRC_BYTES:]
    if _checksum(index.data) != checksum.tobytes():
        raise Damaged(f"{path}: the index fails its checksum; python -m shards verify lists all damage")
    places = np.frombuffer(index.tobytes(), "<u8").reshape(-1, 2)
    step, num_chunks = spec.chunk_bytes + CRC_BYTES, -(-num_rows // spec.chunk_rows)
    for chunk, (offset, size) in enumerate(places[:num_chunks].tolist()):
        if (offset, size) != (chunk * step, step) or offset + size > len(data) - index_bytes - CRC_BYTES:
            raise Damaged(f"{path}: the index puts a chunk at {offset}+{size}, where none of this array can be")
    return data


def object_rows(spec: ArraySpec, packed: bytes | bytearray | memoryview, num_rows: int) -> list[memoryview]:
    """The rows of a shard object, each as its bytes."""
    content = memoryview(packed)
    starts = map(spec.row_offset, range(num_rows))
    return [content[start : start + spec.row_bytes] for start in starts]


def failing_chunks(path: Path, spec: ArraySpec, num_rows: int) -> list[int]:
    """The inner chunks, by number, of the shard object at `path` whose crc32c does not fit."""
    data, step = checked_object(path, spec, num_rows), spec.chunk_bytes + CRC_BYTES
    chunks = data[: -(-num_rows // spec.chunk_rows) * step].reshape(-1, step)
    fits = [_checksum(chunk[:-CRC_BYTES].data) == chunk[-CRC_BYTES:].tobytes() for chunk in chunks]
    return [number for number, chunk_fits in enumerate(fits) if not chunk_fits]


def _checksum(data: memoryview | bytes) -> bytes:
    return crc32c.crc32c(data).to_bytes(CRC_BYTES, "little")
