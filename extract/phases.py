"""Phases: what an extraction plans, begins and leaves behind, whoever runs its shards (`finishing.py`: its end)."""

import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from extract.announced import is_announced
from extract.boards import SHARING, Board, BucketBoard
from extract.committing import remove_uncommitted
from extract.config import ExtractConfig
from extract.half_written import lacks_documents
from extract.memory import batches_within
from extract.pipeline import Extraction
from extract.plan import ExtractionPlan, resolve
from extract.plan_views import ViewSetJob, stored_views
from extract.processes import MAX_COMPUTE_THREADS, device_of
from extract.several import each_teacher
from extract.staging import stage
from extract.store import array_specs, begin_targets, begin_views
from extract.upload import Upload
from shards.command.arguments import as_yaml
from shards.command.devices import device_type, parse_devices, share_of_cores
from shards.commit import make_folder, remove_leftovers
from shards.errors import BadInput
from shards.layout import CALIBRATION, PLAN
from shards.listing import SAVED_FLAGS
from shards.lock import locked, tells_that_it_tidies
from shards.mirror import mirror_of, origin_of
from shards.stores import is_url
from shards.views import view_codec
from shards.zarrs import metadata_bytes


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
        folder, device = self.plan.views.folder, device_type(self.extraction.device)
        return Board(folder, device) if self.upload is None else BucketBoard(folder, self.upload, device)


def folder_of(out: str, shared: bool) -> Path:
    """The folder that --out means: a URL's is its mirror. BadInput for a mirror itself, from which nothing is sent."""
    if is_url(out):
        return mirror_of(out, shared)
    if (mirror := origin_of(Path(out))) is not None:
        raise BadInput(f"--out {out}: is what this machine keeps of {mirror.store.url}; give --out {mirror.store.url}")
    return Path(out)


def planned(
    config: ExtractConfig, shared: bool = False, process: tuple[int, int] | None = None, num_threads: int | None = None
) -> Work:
    """What `config` means here, and the work of one process: `process`, or where it is None the first device's.

    It has `num_threads`, or its share of the cores. Its teachers are on the device; nothing is written yet. Of a bucket
    the mirror has the documents, which the command that started a `process` brought there.
    """
    url, config, committed = config.out, replace(config, out=str(folder_of(config.out, shared))), set[str]()
    if is_url(url) and process is None:
        committed = stage(url, shared)
    devices, plan = parse_devices("devices", config.devices), resolve(config)
    rank, num_processes = process or (0, len(devices.indices))
    device, num_threads = device_of(devices.kind, devices.indices[rank]), num_threads or share_of_cores(num_processes)
    for part in plan.parts:
        if part.teacher is not None:
            part.teacher.network.to(device)
    skip_errors, compute_threads = config.on_error == "skip", min(num_threads, MAX_COMPUTE_THREADS)
    batch_size, compute_threads = batches_within(config, plan.parts, device, compute_threads, process is None)
    how = (config.precision, batch_size, num_threads, skip_errors, compute_threads, rank, num_processes)
    folders = [plan.views.folder, *(job.folder for job in plan.targets)]
    upload = Upload(url, Path(config.out), folders, committed, plan.views.storage.needs_first) if is_url(url) else None
    if shared and (mirror := origin_of(Path(config.out))) is not None:
        mirror.ahead = ()  # the other shards are others' to read
    return Work(plan, Extraction(plan.parts, device, *how), upload)


def plans_at_once(config: ExtractConfig) -> bool:
    """Whether commands that share a folder may plan `config` at the same time: its plan is there, no text is cut.

    Of a bucket the documents are not here yet, and the turn is this machine's alone.
    """
    if is_url(config.out):
        return False
    plan = stored_views(each_teacher(config)[0]).plan
    return plan is not None and view_codec(plan.identity).vocabulary is None


def has_begun(plan: ExtractionPlan) -> bool:
    """Whether nothing is left to write before the shards: all documents and statistics are there."""
    views = plan.views
    documents = {views.folder / name: content for name, content in views.storage.metadata().items()}
    if lacks_documents(views.folder, PLAN, SAVED_FLAGS, *views.maker.codec.files):
        return False
    for job in plan.targets:
        if lacks_documents(job.folder, "zarr.json", SAVED_FLAGS):
            return False
        if job.codec.has_statistics and not (job.folder / CALIBRATION).exists():
            return False
        for spec in array_specs(job, views):
            documents[job.folder / spec.name / "zarr.json"] = metadata_bytes(spec.metadata(job.num_views))
    return all(is_announced(*each) for each in documents.items())


def begin(plan: ExtractionPlan, shared: bool) -> None:
    """The documents of the view set and of its target sets are on the disk."""
    make_folder(plan.views.folder)
    if not shared:  # else they may be another machine's, which is about to rename them
        remove_leftovers(plan.views.folder)
        for folder in (plan.views.folder, *(job.folder for job in plan.targets)):
            remove_uncommitted(folder)
    begin_views(plan.views, as_yaml(plan.flags(plan.parts[0])))
    for part in plan.parts:
        for job in part.targets:
            begin_targets(job, plan.views, as_yaml(plan.flags(part)))


def leave(views: ViewSetJob) -> None:
    """Of the commands that shared the cache the last one has removed what those that were killed left."""
    cache = views.folder.parent
    with contextlib.suppress(BadInput), locked(cache, "") as lock:  # others work here still, or again
        tells_that_it_tidies(lock)
        remove_leftovers(views.folder)
        shutil.rmtree(views.scratch, ignore_errors=True)
        shutil.rmtree(cache / SHARING, ignore_errors=True)
