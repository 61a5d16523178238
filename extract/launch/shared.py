"""`--launch shared`: any number of machines start the same command on one cache and share its shards."""

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from extract.launch import Job, Launcher, refuse_options

if TYPE_CHECKING:
    from extract.pipeline import Counts


class Shared(Launcher):
    """Takes a shard that nobody works on, until all are committed (`extract/sharing.py`)."""

    shares = True

    def begin(self, job: Job) -> Job:
        """`job` ready to run, on a device of the type that the others have; they can read what it began."""
        from extract.same_device import check_device

        check_device(job.board, job.extraction)
        job = super().begin(job)
        job.board.send(())
        return job

    def share(self, job: Job) -> "Counts":
        """All that this process could take is committed, and the rest by others."""
        from extract.sharing import run_shared

        return run_shared(job.extraction, job.board, random.SystemRandom().random())


def make(options: Mapping[str, str]) -> Launcher:
    """The launcher of machines without a coordinator."""
    refuse_options("shared", options)
    return Shared()
