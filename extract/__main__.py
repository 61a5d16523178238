"""`python -m extract`: run a frozen teacher once over augmented data into a cache."""

import contextlib
import json
import shutil
import sys
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from extract.config import ALIASES, DESCRIPTION, HIDDEN, ExtractConfig
from extract.launch import Job, make_launcher
from shards.command.arguments import parse
from shards.command.run import mistake_in, run_command
from shards.errors import TeacherShardsError

if TYPE_CHECKING:
    from extract.launch import Launcher


def main(arguments: list[str] | None = None) -> None:
    """Parse, plan, extract what is missing, and write the manifests."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config = parse(ExtractConfig, "extract", arguments, DESCRIPTION, aliases=ALIASES, hidden=HIDDEN)
    launcher = make_launcher(config.launch)
    if config.plan is not None:  # also where a job would be started from: it says nothing of the launcher
        from extract.bill.command import print_plan
        from extract.memory import what_to_lower
        from shards.command.devices import device_memory

        with device_memory(what_to_lower(config)):
            return print_plan(config)
    if config.dry_run or launcher.is_dry:
        return print(launcher.script(config, arguments))
    launcher.check(config)

    from extract.memory import what_to_lower
    from extract.processes import this_process
    from shards.command.devices import device_memory

    process = this_process()
    try:
        with device_memory(what_to_lower(config)):
            if process is None:
                _extract(config, arguments, launcher)
            else:
                _share(config, arguments, launcher, process)
    except (TeacherShardsError, OSError) as error:
        mistake = mistake_in(error)
        if process is None or mistake is None:
            raise
        print(json.dumps({"mistake": mistake}))  # for the parent, which says it once
        sys.exit(2)


def _share(config: ExtractConfig, arguments: list[str], launcher: "Launcher", process: tuple[int, int]) -> None:
    """The share of a child, which works within the lock of the command that started it."""
    from extract.phases import folder_of, planned, plans_at_once
    from extract.sharing import turn

    at_once = partial(plans_at_once, config)
    with turn(folder_of(config.out, shared=True), at_once) if launcher.shares else contextlib.nullcontext():
        work = planned(config, launcher.shares, process)
        job = launcher.begin(Job(config, arguments, work.extraction, work.board, -1))
    print(json.dumps({**asdict(launcher.share(job)), "sent": job.board.sent()}))


def _extract(config: ExtractConfig, arguments: list[str], launcher: "Launcher") -> None:
    """Begin, let the launcher run all shards, and finish."""
    from extract.bill.happened import tell_planned
    from extract.disk import announce
    from extract.finishing import finish_alone, finish_together, tell
    from extract.named import note
    from extract.named_teachers import note_teachers
    from extract.phases import begin, folder_of, has_begun, leave, planned, plans_at_once
    from extract.promises import promise
    from extract.same_source import check_source
    from extract.sharing import turn
    from shards.bill.trial import remove_stale_trials
    from shards.command.progress import human_bytes
    from shards.lock import writing

    start, shared, alone = time.monotonic(), launcher.shares, contextlib.nullcontext()
    cache = folder_of(config.out, shared)
    remove_stale_trials(cache)
    with writing(cache, shared) as lock, contextlib.ExitStack() as at:
        first = not shared or at.enter_context(turn(cache, partial(plans_at_once, config)))
        work = planned(config, shared)
        plan, upload, folder = work.plan, work.upload, work.plan.views.folder
        check_source(plan.views, work.extraction.skip_errors)
        note(plan.views.plan.identity)
        note_teachers(plan)
        announce(plan.views, plan.targets, shared)  # refuses a full disk before anything is written
        is_new = not shared and not folder.exists()
        # commands that share a bucket send each what it has made, and do not look for more in the mirror
        with upload if upload and not shared else alone:
            try:
                if first or at.enter_context(turn(cache, partial(has_begun, plan))):
                    begin(plan, shared)
                job = launcher.begin(Job(config, arguments, work.extraction, work.board, lock))
                promise(plan, job.extraction)
                at.close()
                counts = launcher.run(job)
            except TeacherShardsError:
                if is_new and not any((folder / "commits").glob("*")):
                    shutil.rmtree(folder)  # a plan alone would refuse the source once it is mended
                raise
        (finish_together if shared else finish_alone)(work, job.board)
        tell(plan, counts, start)
        tell_planned(work, cache, counts, time.monotonic() - start)
        if upload is not None:
            print(f"extract: sent: {upload.num_files:,} files, {human_bytes(upload.num_bytes)}: {config.out}")
    if shared:
        leave(plan.views)


if __name__ == "__main__":
    run_command(main, "extract")
