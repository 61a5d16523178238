"""Weights & Biases, which writes into the run's folder; without a login `wandb sync` uploads it later."""

import netrc
import os

from lightning.pytorch.loggers import WandbLogger

from distill.loggers.base import EXAMPLES, LoggedRun, RunLogger


def open_logger(run: LoggedRun) -> RunLogger:
    """Online where there is a login, in the project of WANDB_PROJECT; wandb takes WANDB_ENTITY itself."""
    try:
        key = os.environ.get("WANDB_API_KEY") or netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        key = None
    offline = os.environ.get("WANDB_MODE") == "offline" or not key
    project = os.environ.get("WANDB_PROJECT", "teacher-shards")
    logger = WandbLogger(name=run.folder.name, save_dir=run.folder, offline=offline, project=project, config=run.facts)
    return RunLogger(
        logger,
        picture=lambda picture, step: logger.log_image(EXAMPLES, [picture], step),
        finish=lambda: logger.experiment.finish(),  # wandb writes the last numbers only now
    )
