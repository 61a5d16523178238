"""zarr.json: what an array of a target set says of itself, compared with how extract writes it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards.errors import RESTORE, Damaged, one_line
from shards.layout import inside
from shards.sealed import read_object
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
    absent = "run the extract command again to write it"
    metadata = read_object(path, RESTORE, absent=absent, error=Damaged, limit=MAX_METADATA_BYTES)
    if metadata.get("zarr_format") != 3:
        raise Damaged(f"{path}: zarr version {metadata.get('zarr_format')}; version 3 is read: {RESTORE}")
    return metadata


def check_array(folder: Path, spec: ArraySpec, num_views: int) -> int:
    """The array's own zarr.json is that of `spec`, for the views that it announces; Damaged else.

    These are at least `num_views`, and more where a growth was killed.
    """
    described, announced = read_array(folder, spec.name, spec.num_samples, spec.shard_size)
    path = folder / spec.name / "zarr.json"
    for field, attribute in {"data_type": "dtype", "shape of a row": "row_shape", "layout": "layout"}.items():
        value, of_manifest = getattr(described, attribute), getattr(spec, attribute)
        if value != of_manifest:
            raise Damaged(f"{path}: {field} is {value}, its manifest says {of_manifest}; {RESTORE}")
    if announced < num_views:
        raise Damaged(
            f"{path}: announces {announced} views, its manifest {num_views}; type the extract command of it again"
        )
    return announced
