"""TensorBoard: event files in RUN/tensorboard, of all attempts; `tensorboard --logdir runs/` shows every run."""

from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger

from distill.loggers.base import EXAMPLES, LoggedRun, RunLogger
from shards.command.arguments import as_yaml


def open_logger(run: LoggedRun) -> RunLogger:
    """Lightning's own; the run's facts are a text beside the curves."""
    logger = TensorBoardLogger(run.folder, name="", version="tensorboard", default_hp_metric=False)

    def writer() -> Any:
        return logger.experiment  # which does nothing on ranks but the first

    writer().add_text("run", "".join(f"    {line}\n" for line in as_yaml(run.facts).decode().splitlines()))
    return RunLogger(
        logger,
        picture=lambda picture, step: writer().add_image(EXAMPLES, np.asarray(picture), step, dataformats="HWC"),
        finish=lambda: writer().close(),
    )
