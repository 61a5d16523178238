"""Launchers by name: which processes, on which machines, run an extraction's shards; the folder is the registry.

To begin, to run some shards and to finish are functions of what is committed, so a launcher only says who runs which.
A module `NAME.py` of this folder offers `make(options) -> Launcher` for `--launch NAME:OPTION=VALUE,...`.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from extract.boards import Board
    from extract.config import ExtractConfig
    from extract.pipeline import Counts, Extraction

__all__ = ["Job", "Launcher", "launcher_names", "make_launcher", "refuse_options"]


@dataclass(frozen=True)
class Job:
    """An extraction that has begun: its documents are on the disk, and its shards are to be made."""

    config: "ExtractConfig"
    arguments: list[str]
    """The command line, which starts the same command in another process."""
    extraction: "Extraction"
    """This machine's work, in `extraction.num_processes` processes, a device each."""
    board: "Board"
    """Where commands that share the extraction leave notes."""
    lock: int
    """The descriptor of the cache's lock, which children share."""


class Launcher:
    """Runs all shards in this process, or in as many on this machine as --devices says."""

    shares = False
    """Whether other commands work on the same cache at the same time."""
    is_dry = False
    """Whether the script alone is asked for."""

    def check(self, config: "ExtractConfig") -> None:
        """Raises BadInput where this process cannot do its part, before anything is read or written."""

    def begin(self, job: Job) -> Job:
        """`job` ready to run; what its codecs had to learn from the first samples is on the disk."""
        from extract.calibrate import calibrated
        from extract.same_device import tell_devices

        tell_devices(job.extraction)
        return replace(job, extraction=calibrated(job.extraction))

    def share(self, job: Job) -> "Counts":
        """The part of this process, which is `extraction.rank` of `extraction.num_processes`, is committed."""
        return job.extraction.run()

    def run(self, job: Job) -> "Counts":
        """Every shard is committed when this returns."""
        from extract.processes import run_processes

        num_processes = job.extraction.num_processes
        if num_processes == 1:
            return self.share(job)
        for part in job.extraction.parts:
            if part.teacher is not None:
                part.teacher.network.cpu()  # the children have their own; this one was for the calibration
        counts, sent = run_processes(job.arguments, num_processes, job.lock)
        job.board.count_sent(*sent)
        return counts

    def script(self, config: "ExtractConfig", arguments: Sequence[str]) -> str:
        """What a dry run prints: the script that starts this command; BadInput where none is needed."""
        raise BadInput(f"--launch {config.launch}: needs no script; --launch slurm:tasks=8,dry_run=true prints one")


def launcher_names() -> list[str]:
    """What --launch may name, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def make_launcher(spec: str) -> Launcher:
    """The launcher that --launch names, with its options; UnknownName, or BadInput for an option that it has not."""
    name, _, text = spec.partition(":")
    if name not in launcher_names():
        raise UnknownName("launcher", name, launcher_names())
    launcher: Launcher = importlib.import_module(f"extract.launch.{name}").make(_options(spec, text))
    return launcher


def _options(spec: str, text: str) -> dict[str, str]:
    """`tasks=8,time=4:00:00` by name; what stands behind a comma and has no name belongs to the value before."""
    options: dict[str, str] = {}
    for piece in text.split(",") if text else []:
        name, equals, value = piece.partition("=")
        if equals and name:
            options[name] = value
        elif options:
            options[next(reversed(options))] += f",{piece}"
        else:
            raise BadInput(f"--launch {spec}: expected NAME:OPTION=VALUE,..., found {piece!r}")
    return options


def refuse_options(name: str, options: Mapping[str, str], known: Sequence[str] = ()) -> None:
    """Raises BadInput where one of `options` is not `known`."""
    for option in options:
        if option not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no options"
            raise BadInput(f"--launch {name}: {takes}, found {option}={options[option]}")
