"""Manifests: the commit of a whole set, written last; and what they will say, while shards are still made."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from extract.announced import announce_just
from extract.committing import write_manifest
from extract.plan_targets import TargetSetJob
from extract.plan_views import ViewSetJob
from extract.store import array_specs, calibration_of
from extract.unseen import read_unseen
from shards.documents import Commit, TargetSetManifest, ViewSetManifest, read_commit
from shards.errors import RESTORE, BadInput, Damaged
from shards.identity import sha256_of_file
from shards.keys import positions
from shards.layout import CALIBRATION, TARGETSET_MANIFEST, VIEWSET_MANIFEST, Place, commit_path, inside
from shards.listing import SAVED_FLAGS
from shards.records import FileRecord, Files
from shards.storage import files_beside
from shards.zarrs import metadata_bytes


def views_manifest(job: ViewSetJob, places: Iterable[Place]) -> ViewSetManifest:
    """What the view set's manifest says where the shards `places` are all that is committed."""
    files = _records(job.folder, [SAVED_FLAGS, *files_beside(job.plan)])
    skipped: set[str] = set()
    for place in places:
        record = _committed(job.folder, *place)
        files |= record.files | _records(job.folder, [commit_path(*place)])
        skipped |= set(record.skipped or ())
    return ViewSetManifest(
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


def finish_views(job: ViewSetJob) -> ViewSetManifest:
    """The view set's manifest is on the disk, the commit of the whole; every (view, shard) must be committed."""
    for name, content in job.storage.metadata().items():
        announce_just(inside(job.folder, name), content)
    manifest = views_manifest(job, job.places())
    if len(manifest.skipped) == len(job.plan.keys):
        raise BadInput(
            f"{job.folder}: every one of {len(manifest.skipped):,} samples was skipped, so there is nothing to learn "
            f"from: mend --data {job.plan.request['data']}, then python -m shards remove {job.folder}"
        )
    write_manifest(job.folder / VIEWSET_MANIFEST, manifest)
    return manifest


def targets_manifest(
    job: TargetSetJob,
    views: ViewSetJob,
    places: Iterable[Place],
    teacher: str,
    teacher_settings: dict[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> TargetSetManifest:
    """What the target set's manifest says where the shards `places` are all that is committed.

    From `teacher_settings` distill builds a student. `class_names` name the teacher's logits; they are stored where the
    view set's own classes are others.
    """
    specs = array_specs(job, views)
    calibration = calibration_of(job)
    statistics = [CALIBRATION] if calibration else []
    files = _records(job.folder, [SAVED_FLAGS, "zarr.json", *statistics, *(f"{spec.name}/zarr.json" for spec in specs)])
    devices: set[str] = set()
    for place in places:
        record = _committed(job.folder, *place)
        if record.calibration != calibration:
            raise Damaged(
                f"{job.folder}: {commit_path(*place)} was encoded with other statistics than {CALIBRATION} "
                f"holds now; python -m shards remove {job.folder}, then extract again"
            )
        files |= record.files | _records(job.folder, [commit_path(*place)])
        devices |= {record.device} if record.device else set()
    layouts = {spec.name: spec.layout for spec in specs if spec.layout is not None}
    teachers_own = job.target == "logits" and class_names is not None and list(class_names) != views.plan.class_names
    first = read_commit(job.folder, 0, 0)
    unseen = read_unseen(inside(job.folder, CALIBRATION)) if job.codec.num_centroids else None
    return TargetSetManifest(
        identity=job.identity,
        teacher=teacher,
        target=job.target,
        codec=job.codec.name,
        codec_error=unseen.error if unseen else (first.codec_error if first else None) or {},
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
        devices=sorted(devices) or None,
        unseen=unseen.samples if unseen else None,
    )


def finish_targets(
    job: TargetSetJob,
    views: ViewSetJob,
    teacher: str,
    teacher_settings: dict[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> TargetSetManifest:
    """The target set's manifest is on the disk; every (view, shard) must be committed."""
    for spec in array_specs(job, views):
        announce_just(inside(job.folder, f"{spec.name}/zarr.json"), metadata_bytes(spec.metadata(job.num_views)))
    manifest = targets_manifest(job, views, views.places(job.num_views), teacher, teacher_settings, class_names)
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
