"""Phases: what begins an extraction and what finishes it, whoever runs the shards between."""

import contextlib
import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from extract.boards import SHARING, Board, BucketBoard
from extract.committing import remove_uncommitted
from extract.config import ExtractConfig
from extract.manifests import finish_targets, finish_views
from extract.memory import batch_within
from extract.pipeline import Counts, Extraction
from extract.plan import ExtractionPlan, resolve
from extract.processes import MAX_COMPUTE_THREADS, device_of
from extract.store import begin_targets, begin_views
from extract.upload import Upload, stage
from shards.command.arguments import as_yaml
from shards.command.devices import parse_devices, share_of_cores
from shards.command.progress import counted, human_bytes
from shards.commit import remove_leftovers
from shards.errors import BadInput
from shards.lock import writing
from shards.mirror import mirror_of
from shards.stores import is_url


@dataclass(frozen=True)
class Work:
    """A command's work on this machine, and where it goes."""

    plan: ExtractionPlan
    extraction: Extraction
    upload: Upload | None
    """What sends a cache that is made in the mirror of a bucket; None for a folder."""

    @property
    def board(self) -> Board:
        """Where commands that share the work leave notes."""
        folder = self.plan.views.folder
        return Board(folder) if self.upload is None else BucketBoard(folder, self.upload)


def folder_of(out: str) -> Path:
    """The folder that --out means: a URL's is its mirror."""
    return mirror_of(out) if is_url(out) else Path(out)


def planned(config: ExtractConfig, shared: bool = False, process: tuple[int, int] | None = None) -> Work:
    """What `config` means here, and the work of one process: `process`, or where it is None the first device's.

    Its teachers are on the device; nothing is written yet. Of a bucket the mirror has the documents, which the command
    that started a `process` brought there.
    """
    url, config, committed = config.out, replace(config, out=str(folder_of(config.out))), set[str]()
    if is_url(url) and process is None:
        committed = stage(url, shared)
    devices, plan = parse_devices("devices", config.devices), resolve(config)
    rank, num_processes = process or (0, len(devices.indices))
    device, num_threads = device_of(devices.kind, devices.indices[rank]), share_of_cores(num_processes)
    for part in plan.parts:
        if part.teacher is not None:
            part.teacher.network.to(device)
    skip_errors, compute_threads = config.on_error == "skip", min(num_threads, MAX_COMPUTE_THREADS)
    batch_size = batch_within(config, plan.parts, device, compute_threads, process is None)
    how = (config.precision, batch_size, num_threads, skip_errors, compute_threads, rank, num_processes)
    folders = [plan.views.folder, *(job.folder for job in plan.targets)]
    upload = Upload(url, Path(config.out), folders, committed) if is_url(url) else None
    return Work(plan, Extraction(plan.parts, device, *how), upload)


def begin(plan: ExtractionPlan, shared: bool) -> None:
    """The documents of the view set and of its target sets are on the disk."""
    plan.views.folder.mkdir(parents=True, exist_ok=True)
    if not shared:  # else they may be another machine's, which is about to rename them
        remove_leftovers(plan.views.folder)
        for folder in (plan.views.folder, *(job.folder for job in plan.targets)):
            remove_uncommitted(folder)
    begin_views(plan.views, as_yaml(plan.flags(plan.parts[0])))
    for part in plan.parts:
        for job in part.targets:
            begin_targets(job, plan.views, as_yaml(plan.flags(part)))


def leave(cache: Path, viewset: Path) -> None:
    """Of the commands that shared `cache` the last one has removed what those that were killed left."""
    with contextlib.suppress(BadInput), writing(cache):  # others work here still, or again
        remove_leftovers(viewset)
        shutil.rmtree(cache / SHARING, ignore_errors=True)


def finish(plan: ExtractionPlan, counts: Counts, start: float) -> None:
    """The manifests are on the disk, and what was done since `start` is said; every shard must be committed."""
    manifest_of_views = finish_views(plan.views)
    shutil.rmtree(plan.views.scratch, ignore_errors=True)
    records = [*manifest_of_views.files.values()]
    for part in plan.parts:
        for job in part.targets:
            teacher = part.teacher
            assert teacher is not None
            manifest = finish_targets(job, plan.views, teacher.name, teacher.settings, teacher.class_names)
            records += manifest.files.values()
            error = ", ".join(f"{name} {value:g}" for name, value in manifest.codec_error.items())
            print(f"extract: {job.folder.name}: codec error on the first samples: {error}")
    skipped = manifest_of_views.skipped
    if skipped:
        shown = ", ".join(skipped[:5]) + (" ..." if len(skipped) > 5 else "")
        print(f"extract: {counted(len(skipped), 'sample')} skipped: {shown}")
    size = sum(record.size for record in records)
    seconds = time.monotonic() - start
    done = max(counts.views, counts.teacher_forwards)
    held = ""
    if done:
        print(f"extract: seconds: {json.dumps(counts.where_it_went())}")
        held = f", held by {counts.held_by()}"
    print(
        f"extract: done: {counts.views:,} views made, {counts.teacher_forwards:,} teacher forwards, "
        f"{human_bytes(size)} in the cache, {done / seconds:,.0f} samples/s over {seconds:,.1f} s{held}: "
        f"{plan.views.folder}"
    )
