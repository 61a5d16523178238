"""Store: rows into zarr shard objects, commits, and the manifests that are written last."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.committing import commit, write_manifest
from extract.plan_targets import TargetSetJob
from extract.plan_views import ViewSetJob
from shards.commit import write_atomically, write_sealed
from shards.documents import (
    Commit,
    TargetSetManifest,
    ViewSetManifest,
    read_commit,
    read_targetset_manifest,
)
from shards.errors import RESTORE, BadInput, Damaged
from shards.identity import sha256_of_file
from shards.keys import KEYS, keys_bytes, positions
from shards.layout import (
    CALIBRATION,
    PLAN,
    TARGETSET_MANIFEST,
    VIEWSET_MANIFEST,
    commit_path,
    inside,
    targetset_is_whole,
)
from shards.listing import SAVED_FLAGS
from shards.records import FileRecord, Files
from shards.rows import Checksums, checksums_of
from shards.storage import files_beside
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
    if not (job.folder / PLAN).exists():
        write_atomically(inside(job.folder, SAVED_FLAGS), config)
        for name, content in job.maker.files().items():
            write_atomically(inside(job.folder, name), content)
        if (computed := keys_bytes(job.plan.keys)) is not None:
            write_atomically(inside(job.folder, KEYS), computed)
        write_sealed(inside(job.folder, PLAN), job.plan.document())
    for name, content in job.storage.metadata().items():
        path = inside(job.folder, name)
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)


def begin_targets(job: TargetSetJob, views: ViewSetJob, config: bytes) -> None:
    """The target set's zarr metadata is on the disk, for as many views as this run will commit."""
    if not (job.folder / "zarr.json").exists():
        write_atomically(inside(job.folder, SAVED_FLAGS), config)
        group = group_bytes({"identity": job.identity, "target": job.target})
        write_atomically(inside(job.folder, "zarr.json"), group)
    told = specs_of(read_targetset_manifest(job.folder)) if targetset_is_whole(job.folder) else {}
    for spec in array_specs(job, views):
        path = inside(job.folder, f"{spec.name}/zarr.json")
        if path.exists():
            check_array(job.folder, told.get(spec.name, spec), 1)
        content = metadata_bytes(spec.metadata(job.num_views))
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)


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
    record = Commit(view, shard, {}, None, None, None, dict(errors), checksums, _calibration(job), device)
    commit(job.folder, record, contents)


def _calibration(job: TargetSetJob) -> str | None:
    """The hash of the statistics that rows are encoded with; None for a codec without any."""
    return sha256_of_file(inside(job.folder, CALIBRATION)) if job.codec.has_statistics else None


def finish_views(job: ViewSetJob) -> ViewSetManifest:
    """The view set's manifest is on the disk, the commit of the whole; every (view, shard) must be committed."""
    files = _records(job.folder, [SAVED_FLAGS, *files_beside(job.plan)])
    skipped: set[str] = set()
    for place in job.places():
        record = _committed(job.folder, *place)
        files |= record.files | _records(job.folder, [commit_path(*place)])
        skipped |= set(record.skipped or ())
    if len(skipped) == len(job.plan.keys):
        raise BadInput(
            f"{job.folder}: every one of {len(skipped):,} samples was skipped, so there is nothing to learn from: "
            f"mend --data {job.plan.request['data']}, then python -m shards remove {job.folder}"
        )
    manifest = ViewSetManifest(
        identity=job.plan.identity,
        num_samples=len(job.plan.keys),
        num_views=job.num_views,
        num_shards=job.plan.num_shards,
        shard_size=job.plan.shard_size,
        request=job.plan.request,
        class_names=job.plan.class_names,
        skipped=[job.plan.keys[number] for number in positions(job.plan.keys, skipped).tolist()],
        files=files,
    )
    write_manifest(job.folder / VIEWSET_MANIFEST, manifest)
    return manifest


def finish_targets(
    job: TargetSetJob,
    views: ViewSetJob,
    teacher: str,
    teacher_settings: dict[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> TargetSetManifest:
    """The target set's manifest is on the disk; with `teacher_settings`, from which distill builds a student.

    `class_names` name the teacher's logits; they are stored where the view set's own classes are others.
    """
    specs = array_specs(job, views)
    calibration = _calibration(job)
    statistics = [CALIBRATION] if calibration else []
    files = _records(job.folder, [SAVED_FLAGS, "zarr.json", *statistics, *(f"{spec.name}/zarr.json" for spec in specs)])
    devices: set[str | None] = set()
    for place in views.places(job.num_views):
        record = _committed(job.folder, *place)
        if record.calibration != calibration:
            raise Damaged(
                f"{job.folder}: {commit_path(*place)} was encoded with other channel statistics than {CALIBRATION} "
                f"holds now; python -m shards remove {job.folder}, then extract again"
            )
        files |= record.files | _records(job.folder, [commit_path(*place)])
        devices |= {record.device} - {None}
    layouts = {spec.name: spec.layout for spec in specs if spec.layout is not None}
    teachers_own = job.target == "logits" and class_names is not None and list(class_names) != views.plan.class_names
    manifest = TargetSetManifest(
        identity=job.identity,
        teacher=teacher,
        target=job.target,
        codec=job.codec.name,
        codec_error=_committed(job.folder, 0, 0).codec_error or {},
        row_shape=list(job.row_shape),
        arrays={spec.name: (spec.dtype, list(spec.row_shape)) for spec in specs},
        num_samples=len(views.plan.keys),
        num_views=job.num_views,
        shard_size=views.plan.shard_size,
        files=files,
        keep_tokens=job.keep_tokens,
        teacher_settings=teacher_settings,
        layouts=layouts or None,
        class_names=list(class_names or ()) if teachers_own else None,
        devices=sorted(map(str, devices)) or None,
    )
    write_manifest(job.folder / TARGETSET_MANIFEST, manifest)
    return manifest


def _committed(folder: Path, view: int, shard: int) -> Commit:
    record = read_commit(folder, view, shard)
    assert record is not None, f"{folder}: view {view}, shard {shard} was not committed"
    return record


def _records(folder: Path, names: list[str]) -> Files:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise Damaged(f"{folder / missing[0]}: missing; {RESTORE}")
    return {name: FileRecord((folder / name).stat().st_size, sha256_of_file(folder / name)) for name in names}
