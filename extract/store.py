"""Store: what a set begins with, and rows into zarr shard objects and commits; manifests come last (`manifests.py`)."""

from dataclasses import replace

import numpy as np

from extract.announced import announce
from extract.committing import commit
from extract.half_written import lacks_documents
from extract.plan_targets import TargetSetJob
from extract.plan_views import ViewSetJob
from shards.commit import write_atomically, write_sealed
from shards.documents import Commit, read_targetset_manifest
from shards.identity import sha256_of_file
from shards.keys import KEYS, keys_bytes
from shards.layout import CALIBRATION, PLAN, inside, targetset_is_whole
from shards.listing import SAVED_FLAGS
from shards.rows import Checksums, checksums_of
from shards.zarr_json import check_array, read_array
from shards.zarrs import ArraySpec, group_bytes, metadata_bytes, object_rows, pack, specs_of, without_padding


def array_specs(job: TargetSetJob, views: ViewSetJob) -> list[ArraySpec]:
    """The zarr arrays of a target set: laid out as the folder has them already, else with little padding."""
    counts = len(views.plan.keys), views.plan.shard_size
    specs = []
    for name, (dtype, row_shape) in job.codec.arrays().items():
        plain = ArraySpec(name, dtype, row_shape, *counts)
        if inside(job.folder, f"{name}/zarr.json").exists():
            specs.append(replace(plain, layout=read_array(job.folder, name, *counts)[0].layout))
        elif targetset_is_whole(job.folder):
            specs.append(specs_of(read_targetset_manifest(job.folder))[name])
        else:
            specs.append(without_padding(plain))
    return specs


def begin_views(job: ViewSetJob, config: bytes) -> None:
    """The view set's plan is on the disk: written first, never changed."""
    if lacks_documents(job.folder, PLAN, SAVED_FLAGS, *job.maker.codec.files):
        write_atomically(inside(job.folder, SAVED_FLAGS), config)
        for name, content in job.maker.files().items():
            write_atomically(inside(job.folder, name), content)
        if (computed := keys_bytes(job.plan.keys)) is not None:
            write_atomically(inside(job.folder, KEYS), computed)
        write_sealed(inside(job.folder, PLAN), job.plan.document())
    for name, content in job.storage.metadata().items():
        announce(inside(job.folder, name), content)


def begin_targets(job: TargetSetJob, views: ViewSetJob, config: bytes) -> None:
    """The target set's zarr metadata is on the disk, for at least as many views as this run will commit."""
    if lacks_documents(job.folder, "zarr.json", SAVED_FLAGS):
        write_atomically(inside(job.folder, SAVED_FLAGS), config)
        group = group_bytes({"identity": job.identity, "target": job.target})
        write_atomically(inside(job.folder, "zarr.json"), group)
    told = specs_of(read_targetset_manifest(job.folder)) if targetset_is_whole(job.folder) else {}
    for spec in array_specs(job, views):
        path = inside(job.folder, f"{spec.name}/zarr.json")
        if path.exists():
            check_array(job.folder, told.get(spec.name, spec), 1)
        announce(path, metadata_bytes(spec.metadata(job.num_views)))


def commit_targets(
    job: TargetSetJob,
    views: ViewSetJob,
    view: int,
    shard: int,
    rows: dict[str, np.ndarray],
    errors: dict[str, float],
    device: str | None = None,
) -> None:
    """One shard's objects, one an array, and then its commit record, which names the `device`, are on the disk."""
    contents: dict[str, bytes | bytearray] = {}
    checksums: Checksums = {}
    for spec in array_specs(job, views):
        packed = pack(spec, rows[spec.name])
        contents[spec.shard_path(view, shard)] = packed
        checksums[spec.name] = checksums_of(object_rows(spec, packed, len(rows[spec.name])))
    record = Commit(view, shard, {}, None, None, None, dict(errors), checksums, calibration_of(job), device)
    commit(job.folder, record, contents)


def calibration_of(job: TargetSetJob) -> str | None:
    """The hash of the statistics that rows are encoded with; None for a codec without any."""
    return sha256_of_file(inside(job.folder, CALIBRATION)) if job.codec.has_statistics else None
