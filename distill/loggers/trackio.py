"""Trackio: a local database of all runs (TRACKIO_DIR, else in Hugging Face's cache), which `trackio show` opens.

It keeps to this machine unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names a place for it.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import trackio
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from distill.loggers.base import EXAMPLES, LoggedRun, RunLogger, own_name


def open_logger(run: LoggedRun) -> RunLogger:
    """The project is TRACKIO_PROJECT, else teacher-shards; a run that resumes goes on in its own curves."""
    logger = TrackioLogger(run)
    return RunLogger(logger, picture=logger.log_picture, finish=logger.finish)


class TrackioLogger(Logger):
    """Lightning's numbers in one run of Trackio; Lightning has no logger of its own for it."""

    def __init__(self, run: LoggedRun) -> None:
        super().__init__()
        self._run, self._experiment = run, None

    @property
    def name(self) -> str:
        """The project."""
        return os.environ.get("TRACKIO_PROJECT", "teacher-shards")

    @property
    def version(self) -> str:
        """The folder's name; Trackio knows the run by its own (`own_name`)."""
        return self._run.folder.name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of Trackio, begun when it is first asked for."""
        if self._experiment is None:
            resume = "allow" if self._run.resumes else "never"
            with contextlib.redirect_stdout(sys.stderr):  # its welcome is no result of the command
                name = own_name(self._run, "trackio")
                self._experiment = trackio.init(self.name, name, config=self._run.facts, resume=resume)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers after `step` optimiser steps."""
        self.experiment.log(dict(metrics), step=step)

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """The run's facts are its configuration from the start."""

    @rank_zero_only
    def log_picture(self, picture: Image.Image, step: int) -> None:
        """A picture after `step` optimiser steps."""
        self.experiment.log({EXAMPLES: trackio.Image(picture)}, step=step)

    @rank_zero_only
    def finish(self) -> None:
        """All that was logged is in the database."""
        with contextlib.redirect_stdout(sys.stderr):
            self.experiment.finish()
