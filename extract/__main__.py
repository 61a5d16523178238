"""`python -m extract`: run a frozen teacher once over augmented data into a cache."""

import contextlib
import json
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from extract.config import ALIASES, DESCRIPTION, ExtractConfig
from shards.command.arguments import as_yaml, parse
from shards.command.run import run_command
from shards.errors import BadInput, TeacherShardsError, one_line

if TYPE_CHECKING:
    from extract.pipeline import Counts, Extraction
    from extract.plan import ExtractionPlan


def main(arguments: list[str] | None = None) -> None:
    """Parse, plan, extract what is missing, and write the manifests."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config = parse(ExtractConfig, "extract", arguments, DESCRIPTION, aliases=ALIASES)

    from extract import launch

    process = launch.this_process()
    try:
        _extract(config, arguments, process)
    except TeacherShardsError as error:
        if process is None:
            raise
        print(json.dumps({"mistake": one_line(error)}))  # for the parent, which says it once
        sys.exit(2)


def _extract(config: ExtractConfig, arguments: list[str], process: tuple[int, int] | None) -> None:
    """One process's part: all of it, or in a child of --devices N its share of the shards."""
    from extract import launch
    from extract.calibrate import calibrated
    from extract.disk import announce
    from extract.pipeline import Extraction
    from extract.plan import resolve
    from extract.promises import promise
    from extract.same_source import check_source
    from extract.sharing import check_device, clear, run_shared, turn
    from extract.upload import Upload, stage
    from shards.command.devices import parse_devices, share_of_cores
    from shards.command.progress import human_bytes
    from shards.lock import writing
    from shards.mirror import mirror_of
    from shards.stores import is_url

    start, url, shared = time.monotonic(), config.out, config.launch == "shared"
    if shared and is_url(url):
        raise BadInput(f"--launch shared: expected a folder that all machines see, found --out {url}; give a folder")
    if there := is_url(url):
        root, committed = (mirror_of(url), set[str]()) if process else stage(url)
        config = replace(config, out=str(root))
    devices = parse_devices("devices", config.devices)
    # a child works within the lock of the command that started it
    cache, alone = Path(config.out), contextlib.nullcontext()
    with (
        writing(cache, shared) if process is None else contextlib.nullcontext(-1) as lock,
        contextlib.ExitStack() as at,
    ):
        at.enter_context(turn(cache) if shared else alone)
        plan = resolve(config)
        rank, num_processes = process or (0, len(devices.indices))
        device = launch.device_of(devices.kind, devices.indices[rank])
        num_threads = share_of_cores(num_processes)
        for part in plan.parts:
            if part.teacher is not None:
                part.teacher.network.to(device)
        skip_errors, compute_threads = config.on_error == "skip", min(num_threads, launch.MAX_COMPUTE_THREADS)
        how = (config.precision, config.batch_size, num_threads, skip_errors, compute_threads, rank, num_processes)
        extraction = Extraction(plan.parts, device, *how)
        if process is not None:
            extraction = calibrated(extraction)
            at.close()
            print(json.dumps(asdict(run_shared(extraction) if shared else extraction.run())))
            return
        check_source(plan.views, skip_errors)
        announce(plan.views, plan.targets)  # refuses a full disk before anything is written
        is_new = not shared and not plan.views.folder.exists()
        folders = [plan.views.folder, *(job.folder for job in plan.targets)]
        upload = Upload(url, root, folders, committed) if there else None
        with upload or contextlib.nullcontext():
            try:
                _begin(plan, shared)
                if shared:
                    check_device(plan.views.folder, [job.folder.name for job in plan.targets], device)
                extraction = calibrated(extraction)
                promise(plan, extraction)
                at.close()
                counts = _run(plan, extraction, arguments, num_processes, lock, shared)
            except TeacherShardsError:
                if is_new and not any((plan.views.folder / "commits").glob("*")):
                    shutil.rmtree(plan.views.folder)  # a plan alone would refuse the source once it is mended
                raise
            with turn(cache) if shared else alone:
                _finish(plan, counts, start)
                if shared:
                    clear(plan.views.folder)
        if upload is not None:
            upload.finish()
            print(f"extract: sent: {upload.num_files:,} files, {human_bytes(upload.num_bytes)}: {url}")


def _begin(plan: "ExtractionPlan", shared: bool) -> None:
    from extract.store import begin_targets, begin_views
    from shards.commit import remove_leftovers

    plan.views.folder.mkdir(parents=True, exist_ok=True)
    if not shared:  # else they may be another machine's, which is about to rename them
        remove_leftovers(plan.views.folder)
    begin_views(plan.views, as_yaml(plan.flags(plan.parts[0])))
    for part in plan.parts:
        for job in part.targets:
            begin_targets(job, plan.views, as_yaml(plan.flags(part)))


def _run(
    plan: "ExtractionPlan", extraction: "Extraction", arguments: list[str], num_processes: int, lock: int, shared: bool
) -> "Counts":
    from extract.launch import run_processes
    from extract.sharing import run_shared

    if num_processes == 1:
        return run_shared(extraction) if shared else extraction.run()
    for part in plan.parts:
        if part.teacher is not None:
            part.teacher.network.cpu()  # the children have their own; this one was for the calibration
    return run_processes(arguments, num_processes, lock)


def _finish(plan: "ExtractionPlan", counts: "Counts", start: float) -> None:
    from extract.manifests import finish_targets, finish_views
    from shards.command.progress import counted, human_bytes

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
    print(
        f"extract: done: {counts.views:,} views made, {counts.teacher_forwards:,} teacher forwards, "
        f"{human_bytes(size)} in the cache, {done / seconds:,.0f} samples/s over {seconds:,.1f} s: {plan.views.folder}"
    )


if __name__ == "__main__":
    run_command(main, "extract")
