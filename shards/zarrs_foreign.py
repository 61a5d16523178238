"""Arrays that someone re-wrote with a compressor: read by the zarr library, after their metadata has been checked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from shards.errors import RESTORE, Damaged
from shards.layout import inside
from shards.zarrs import ArraySpec

KNOWN_CODECS = {"bytes", "crc32c", "zstd", "gzip", "blosc", "sharding_indexed"}
MAX_METADATA_BYTES = 1 << 20
_ZARR_ERRORS = (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, OSError, MemoryError)
"""What zarr and its codecs raise on metadata and chunks that are not in order: they have no error of their own."""


def load_metadata(folder: Path, name: str) -> dict[str, Any]:
    """What the zarr.json of the array `name` holds; Damaged where that is nothing of zarr version 3."""
    path = inside(folder, f"{name}/zarr.json")
    if (path.parent / ".zarray").exists():
        raise Damaged(f"{path.parent}: zarr version 2; version 3 is read: {RESTORE}")
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise Damaged(f"{path}: larger than {MAX_METADATA_BYTES} bytes, which no zarr.json is")
        metadata = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; run the extract command again to write it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path}: cannot be read as JSON ({error}); {RESTORE}") from None
    version = metadata.get("zarr_format") if isinstance(metadata, dict) else None
    if version != 3:
        raise Damaged(f"{path}: zarr version {version}; version 3 is read: {RESTORE}")
    return metadata


def read_array_metadata(folder: Path, spec: ArraySpec, num_views: int) -> dict[str, Any] | None:
    """None where the array's zarr.json is the one we write (mapped reading), else a foreign one's checked metadata.

    Damaged for zarr version 2, a shape or type that is not the manifest's, and codecs outside KNOWN_CODECS.
    """
    path, metadata = inside(folder, f"{spec.name}/zarr.json"), load_metadata(folder, spec.name)
    shape = metadata.get("shape")
    # a killed growth may have announced more views than the manifest commits
    views = shape[0] if isinstance(shape, list) and shape and isinstance(shape[0], int) else 0
    expected = spec.metadata(max(views, num_views))
    if metadata == expected:
        return None
    for field in ("shape", "data_type", "chunk_key_encoding", "node_type", "fill_value"):
        if metadata.get(field) != expected[field]:
            held, wanted = str(metadata.get(field))[:80], expected[field]
            raise Damaged(f"{path}: {field} is {held}, its manifest says {wanted}; {RESTORE}")
    unknown = sorted(set(_codec_names(metadata.get("codecs"))) - KNOWN_CODECS)
    if unknown or metadata.get("storage_transformers"):
        raise Damaged(
            f"{path}: unknown codecs {', '.join(unknown) or 'in storage_transformers'}; rewrite it with known ones"
        )
    return metadata


def _codec_names(codecs: Any) -> list[str]:
    names: list[str] = []
    for codec in codecs if isinstance(codecs, list) else [{}]:
        codec = codec if isinstance(codec, dict) else {}
        names.append(str(codec.get("name")))
        told = codec.get("configuration")
        configuration = told if isinstance(told, dict) else {}
        for inner in ("codecs", "index_codecs"):
            names.extend(_codec_names(configuration[inner]) if inner in configuration else [])
    return names


class ZarrArray:
    """One array through zarr-python: slower (0.05-0.24 of a raw read), for any chunking and compressor it knows."""

    def __init__(self, folder: Path, spec: ArraySpec, metadata: dict[str, Any]) -> None:
        import zarr

        self._path, self._spec = folder / spec.name, spec
        grid = metadata.get("chunk_grid")
        wanted = {"name": "regular", "configuration": {"chunk_shape": [1, spec.shard_size, *spec.row_shape]}}
        if grid != wanted:
            raise Damaged(f"{self._path}: chunks of {str(grid)[:80]}; one object a (view, shard) is read")
        try:
            self._array = zarr.open_array(str(self._path), mode="r", zarr_format=3)
        except _ZARR_ERRORS as error:
            raise Damaged(f"{self._path}: zarr cannot open it ({error}); {RESTORE}") from error

    def gather(self, view: int, samples: Int[np.ndarray, " count"], out: UInt8[np.ndarray, "count row_bytes"]) -> None:
        """Copy the rows of `samples` into `out`."""
        try:
            rows = np.asarray(self._array.oindex[view, samples])
        except _ZARR_ERRORS as error:
            raise Damaged(f"{self._path}: zarr cannot read it ({error}); {RESTORE}") from error
        out[:] = np.ascontiguousarray(rows).reshape(len(samples), -1).view(np.uint8)
