"""zarr.json: what an array of a target set says of itself, held against how extract writes it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards.errors import RESTORE, Damaged, one_line
from shards.layout import inside
from shards.zarrs import ArraySpec

MAX_METADATA_BYTES = 1 << 20
_REWRITTEN = f"an array that was re-written in another form (compressed?) is not read: {RESTORE}"


def read_array(folder: Path, name: str, num_samples: int, shard_size: int) -> tuple[ArraySpec, int]:
    """The array `name` of the target set in `folder`, and its number of views, as its own zarr.json describes it.

    Damaged where that is not as we write it: an array that someone compressed is not read.
    """
    path, metadata = inside(folder, f"{name}/zarr.json"), _load_metadata(folder, name)
    try:
        num_views, _, *row_shape = metadata["shape"]
        object_rows = metadata["chunk_grid"]["configuration"]["chunk_shape"][1]
        chunk_rows = metadata["codecs"][0]["configuration"]["chunk_shape"][1]
        if any(type(count) is not int or count < 1 for count in (num_views, *row_shape, object_rows, chunk_rows)):
            raise ValueError("counts must be whole numbers of at least 1")
        plain = ArraySpec(name, metadata["data_type"], tuple(row_shape), num_samples, shard_size)
        layout = (object_rows, chunk_rows)
        spec = plain if layout == plain.default_layout else replace(plain, layout=layout)
        expected = spec.metadata(num_views)
    except (LookupError, TypeError, ValueError, Damaged) as error:
        raise Damaged(f"{path}: describes no array that extract writes ({one_line(error)}); {_REWRITTEN}") from None
    for field in sorted(expected.keys() | metadata.keys()):
        if metadata.get(field) != expected.get(field):
            shown = json.dumps(metadata.get(field))[:80]
            raise Damaged(f"{path}: {field} is {shown}, which is not as extract writes it; {_REWRITTEN}")
    return spec, num_views


def _load_metadata(folder: Path, name: str) -> dict[str, Any]:
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


def check_array(folder: Path, spec: ArraySpec, num_views: int) -> None:
    """The array's own zarr.json is that of `spec`; Damaged else. A killed growth may have announced more views."""
    announced, views = read_array(folder, spec.name, spec.num_samples, spec.shard_size)
    path = folder / spec.name / "zarr.json"
    for field, attribute in {"data_type": "dtype", "shape of a row": "row_shape", "layout": "layout"}.items():
        found, wanted = getattr(announced, attribute), getattr(spec, attribute)
        if found != wanted:
            raise Damaged(f"{path}: {field} is {found}, its manifest says {wanted}; {RESTORE}")
    if views < num_views:
        raise Damaged(f"{path}: announces {views} views, its manifest {num_views}; {RESTORE}")
