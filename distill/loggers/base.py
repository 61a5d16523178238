"""What a logger is to a run: Lightning's own, what it does with a picture, and how it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from PIL import Image

EXAMPLES = "examples"
"""What the pictures of validation examples are logged as."""


@dataclass(frozen=True)
class LoggedRun:
    """What loggers are told of a run before its first step."""

    folder: Path
    """Its name is the run's."""
    facts: dict[str, Any]
    """The recipe's values, hashes of what is read, and the revision of this project."""
    resumes: bool
    """Whether a checkpoint of an earlier attempt goes on."""


@dataclass(frozen=True)
class RunLogger:
    """One logger of one attempt of a run."""

    logger: Logger
    """Lightning calls it on the first rank alone."""
    picture: Callable[[Image.Image, int], None] | None = None
    """Logs a picture (RGB) of validation examples after so many optimiser steps; None where it takes none."""
    finish: Callable[[], None] = lambda: None
    """All is written when it returns; called once, on every rank."""
