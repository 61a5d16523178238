"""`python -m extract`: run a frozen teacher once over augmented data into a cache."""

import contextlib
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.config import ALIASES, DESCRIPTION, ExtractConfig
from shards.command.arguments import as_yaml, parse
from shards.command.run import run_command
from shards.errors import BadInput, TeacherShardsError, one_line

if TYPE_CHECKING:
    from extract.pipeline import Counts
    from extract.plan import ViewSetJob
    from extract.plan_targets import TargetSetJob
    from extract.teachers.base import Teacher

MACHINE_SETTINGS = ("out", "devices")
"""Left out of the saved configuration: they differ between machines and change no stored byte."""


def main(arguments: list[str] | None = None) -> None:
    """Parse, plan, extract what is missing, and write the manifests."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config = parse(ExtractConfig, "extract", arguments, DESCRIPTION, aliases=ALIASES)
    _check_choices(config)

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
    from extract.plan import plan_views, stored_views
    from extract.plan_targets import plan_targets
    from extract.same_source import check_source
    from shards.command.devices import share_of_cores
    from shards.lock import writing

    start = time.monotonic()
    kind, num_processes = launch.parse_devices(config.devices)
    # a child works within the lock of the command that started it
    with writing(Path(config.out)) if process is None else contextlib.nullcontext(-1) as lock:
        stored = stored_views(config)
        config = stored.config
        teacher = None
        if config.teacher != "none":
            from extract.teachers import load_teacher

            teacher = load_teacher(config.teacher, config.weights, stored.teacher_size(), config.weights_key)
        views = plan_views(stored, teacher.inputs if teacher else None)
        targets = plan_targets(config, views, teacher) if teacher else []
        rank, num_processes = process or (0, num_processes)
        device, num_threads = launch.device_of(kind, rank), share_of_cores(num_processes)
        if teacher is not None:
            teacher.network.to(device)
        extraction = Extraction(
            views,
            targets,
            teacher,
            device,
            config.precision,
            config.batch_size,
            num_threads,
            config.on_error == "skip",
            min(num_threads, launch.MAX_COMPUTE_THREADS),
            rank,
            num_processes,
        )
        if process is not None:
            print(json.dumps(asdict(calibrated(extraction).run())))
            return
        check_source(views, config.on_error == "skip")
        announce(views, targets)  # refuses a full disk before anything is written
        _begin(config, views, targets)
        extraction = calibrated(extraction)
        if teacher is not None and num_processes > 1:
            teacher.network.cpu()  # the children have their own; this one was for the calibration
        counts = launch.run_processes(arguments, num_processes, lock) if num_processes > 1 else extraction.run()
        _finish(views, targets, teacher, counts, start)


def _check_choices(config: ExtractConfig) -> None:
    choices = {"precision": ("float32", "bfloat16", "float16"), "on_error": ("fail", "skip")}
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise BadInput(f"--{name} {getattr(config, name)!r}: expected {' or '.join(allowed)}")
    for name in ("views", "limit", "shard_size", "batch_size", "keep_tokens"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name} {value}: expected a whole number of at least 1")
    if config.split != Path(config.split).name:
        raise BadInput(f"--split {config.split!r}: expected a plain word such as train or validation")


def _begin(config: ExtractConfig, views: "ViewSetJob", targets: "list[TargetSetJob]") -> None:
    from extract.store import begin_targets, begin_views
    from shards.commit import remove_leftovers

    saved = as_yaml(_resolved(config, views, targets))
    views.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(views.folder)
    begin_views(views, saved)
    for job in targets:
        begin_targets(job, views, saved)


def _resolved(config: ExtractConfig, views: "ViewSetJob", targets: "list[TargetSetJob]") -> dict[str, Any]:
    """The configuration with every default filled in: the same for a first, a resumed and a repeated command."""
    resolved = replace(
        config,
        views=views.asked_views,
        shard_size=views.plan.shard_size,
        target=",".join(job.target for job in targets) or config.target,
        codec=",".join(job.codec.name for job in targets) or config.codec,
    )
    saved: dict[str, Any] = {}
    for name, value in asdict(resolved).items():
        if name == "view":
            saved |= views.maker.flags()
        elif name not in MACHINE_SETTINGS:
            saved[name] = value
    return saved


def _finish(
    views: "ViewSetJob", targets: "list[TargetSetJob]", teacher: "Teacher | None", counts: "Counts", start: float
) -> None:
    from extract.store import finish_targets, finish_views
    from shards.command.progress import counted, human_bytes

    manifest_of_views = finish_views(views)
    records = [*manifest_of_views.files.values()]
    for job in targets:
        assert teacher is not None
        manifest = finish_targets(job, views, teacher.name, teacher.settings, teacher.class_names)
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
        f"{human_bytes(size)} in the cache, {done / seconds:,.0f} samples/s over {seconds:,.1f} s: {views.folder}"
    )


if __name__ == "__main__":
    run_command(main, "extract")
