"""Sizes: the files that an extraction still has to write, from its plan and a few views that were made for a trial."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import save

from extract.plan import ExtractionPlan
from extract.plan_targets import Part, TargetSetJob
from extract.plan_views import ViewSetJob
from extract.store import array_specs, begin_targets, begin_views
from shards.command.arguments import as_yaml
from shards.documents import Commit
from shards.layout import PLAN
from shards.records import FileRecord
from shards.rows import checksums_of
from shards.sealed import sealed

_MANIFEST_BYTES, _BYTES_A_RECORD = 700, 126
"""Of a manifest without files, and of a file in it: its path, its size and its SHA-256."""


@dataclass(frozen=True)
class Amount:
    """Bytes in files."""

    num_bytes: int | float = 0
    num_files: int | float = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.num_bytes + other.num_bytes, self.num_files + other.num_files)

    def __mul__(self, times: int | float) -> "Amount":
        return Amount(self.num_bytes * times, self.num_files * times)


def total(amounts: Iterable[Amount]) -> Amount:
    """All together."""
    return sum(amounts, Amount())


def amount_in(folder: Path) -> Amount:
    """What lies in `folder`."""
    return total(Amount(path.stat().st_size, 1) for path in folder.rglob("*") if path.is_file())


def shards_amount(rows: int, stored: Amount, counts: Sequence[int]) -> Amount:
    """The shards of `counts` rows each, where a shard of `rows` is `stored`."""
    return Amount(sum(counts) * stored.num_bytes / rows, stored.num_files * len(counts))


def begun(plan: ExtractionPlan, trial: Path) -> tuple[Amount, list[Part]]:
    """What the documents take that a run begins with, as far as they lack; and the parts as they would lie in `trial`.

    The documents are written there.
    """
    views = plan.views
    folder = trial / views.folder.name
    written = Amount()
    if not (views.folder / PLAN).exists():
        begin_views(replace(views, folder=folder), as_yaml(plan.flags(plan.parts[0])))
        written = amount_in(folder)
    parts = []
    for part in plan.parts:
        jobs = []
        for job in part.targets:
            jobs.append(replace(job, folder=folder / "targets" / job.folder.name))
            if not (job.folder / "zarr.json").exists():
                begin_targets(jobs[-1], views, as_yaml(plan.flags(part)))
                written += amount_in(jobs[-1].folder)
        parts.append(replace(part, views=replace(part.views, folder=folder), targets=jobs))
    return written, parts


def targets_amount(job: TargetSetJob, views: ViewSetJob, counts: Sequence[int]) -> Amount:
    """The objects and commit records of shards of `counts` rows, exact but for the digits of a codec's error."""
    specs = array_specs(job, views)
    of_size = {}
    for rows in set(counts):
        objects = [spec.object_bytes(rows) for spec in specs]
        checksums = {spec.name: checksums_of([memoryview(b"-")] * rows) for spec in specs}
        files = {spec.shard_path(0, 0): FileRecord(size, "0" * 64) for spec, size in zip(specs, objects, strict=True)}
        calibration = "0" * 64 if job.codec.has_statistics else None
        record = Commit(0, 0, files, None, None, None, {}, checksums, calibration, "cpu")
        of_size[rows] = Amount(sum(objects) + len(sealed(record.document())), len(specs) + 1)
    return total(of_size[rows] for rows in counts)


def statistics_amount(job: TargetSetJob) -> Amount:
    """The statistics of a codec that has been calibrated; nothing for another."""
    return Amount(len(save(job.codec.state())), 1) if job.codec.has_statistics else Amount()


def manifests_amount(written: Amount, names: Sequence[Sequence[str] | None]) -> Amount:
    """The manifests of sets with these class names, which list all files that were `written`."""
    own = sum(len(json.dumps(list(each))) for each in names if each)
    return Amount(len(names) * _MANIFEST_BYTES + own + written.num_files * _BYTES_A_RECORD, len(names))


def own_names(job: TargetSetJob, views: ViewSetJob, names: Sequence[str] | None) -> Sequence[str] | None:
    """The class names that a target set's manifest keeps: a teacher's own, of its logits."""
    return names if job.target == "logits" and list(names or ()) != views.plan.class_names else None
