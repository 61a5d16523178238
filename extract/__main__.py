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
from extract.launch import Job, make_launcher
from shards.command.arguments import parse
from shards.command.run import run_command
from shards.errors import BadInput, TeacherShardsError, one_line

if TYPE_CHECKING:
    from extract.launch import Launcher


def main(arguments: list[str] | None = None) -> None:
    """Parse, plan, extract what is missing, and write the manifests."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config = parse(ExtractConfig, "extract", arguments, DESCRIPTION, aliases=ALIASES)
    launcher = make_launcher(config.launch)
    if config.dry_run:
        return print(launcher.script(config, arguments))
    launcher.check()

    from extract.processes import this_process

    process = this_process()
    try:
        if process is None:
            _extract(config, arguments, launcher)
        else:
            _share(config, arguments, launcher, process)
    except TeacherShardsError as error:
        if process is None:
            raise
        print(json.dumps({"mistake": one_line(error)}))  # for the parent, which says it once
        sys.exit(2)


def _share(config: ExtractConfig, arguments: list[str], launcher: "Launcher", process: tuple[int, int]) -> None:
    """The share of a child, which works within the lock of the command that started it."""
    from extract.phases import planned
    from extract.sharing import turn
    from shards.mirror import mirror_of
    from shards.stores import is_url

    if is_url(config.out):
        config = replace(config, out=str(mirror_of(config.out)))
    with turn(Path(config.out)) if launcher.shares else contextlib.nullcontext():
        extraction = launcher.begin(planned(config, process)[1])
    counts = launcher.share(Job(config, arguments, extraction, process[1], -1))
    print(json.dumps(asdict(counts)))


def _extract(config: ExtractConfig, arguments: list[str], launcher: "Launcher") -> None:
    """Begin, let the launcher run all shards, and finish."""
    from extract.disk import announce
    from extract.phases import begin, finish, planned
    from extract.same_source import check_source
    from extract.sharing import check_device, clear, turn
    from extract.upload import Upload, stage
    from shards.command.progress import human_bytes
    from shards.lock import writing
    from shards.stores import is_url

    start, url, shared = time.monotonic(), config.out, launcher.shares
    if shared and is_url(url):
        raise BadInput(f"--launch shared: expected a folder that all machines see, found --out {url}; give a folder")
    if there := is_url(url):
        root, committed = stage(url)
        config = replace(config, out=str(root))
    cache, alone = Path(config.out), contextlib.nullcontext()
    with writing(cache, shared) as lock, contextlib.ExitStack() as at:
        at.enter_context(turn(cache) if shared else alone)
        plan, extraction = planned(config)
        check_source(plan.views, extraction.skip_errors)
        announce(plan.views, plan.targets)  # refuses a full disk before anything is written
        is_new = not shared and not plan.views.folder.exists()
        folders = [plan.views.folder, *(job.folder for job in plan.targets)]
        upload = Upload(url, root, folders, committed) if there else None
        with upload or contextlib.nullcontext():
            try:
                begin(plan, shared)
                if shared:
                    check_device(plan.views.folder, [job.folder.name for job in plan.targets], extraction.device)
                extraction = launcher.begin(extraction)
                at.close()
                counts = launcher.run(Job(config, arguments, extraction, extraction.num_processes, lock))
            except TeacherShardsError:
                if is_new and not any((plan.views.folder / "commits").glob("*")):
                    shutil.rmtree(plan.views.folder)  # a plan alone would refuse the source once it is mended
                raise
            with turn(cache) if shared else alone:
                finish(plan, counts, start)
                if shared:
                    clear(plan.views.folder)
        if upload is not None:
            upload.finish()
            print(f"extract: sent: {upload.num_files:,} files, {human_bytes(upload.num_bytes)}: {url}")


if __name__ == "__main__":
    run_command(main, "extract")
