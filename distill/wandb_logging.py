"""Weights & Biases: the run's configuration, cache identity and git revision; offline when there is no login."""

import netrc
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(run_dir: Path, config: dict[str, Any]) -> WandbLogger:
    """A logger that writes into the run's folder; `wandb sync` uploads an offline run later."""
    offline = os.environ.get("WANDB_MODE") == "offline" or not logged_in()
    project = os.environ.get("WANDB_PROJECT", "teacher-shards")  # the entity, wandb takes from WANDB_ENTITY itself
    return WandbLogger(name=run_dir.name, save_dir=run_dir, offline=offline, project=project, config=config)


def logged_in() -> bool:
    """Whether wandb would find an API key: in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
