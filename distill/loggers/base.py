"""What a logger is to a run: Lightning's own, what it does with a picture, and how it ends."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from PIL import Image

from shards.commit import write_atomically

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


def own_name(run: LoggedRun, logger: str) -> str:
    """A name for `run` that no other run has, of the same folder's name or of the same folder before.

    It is kept in RUN/LOGGER.name, where the run finds it when it resumes.
    """
    path = run.folder / f"{logger}.name"
    if not (run.resumes and path.exists()):
        write_atomically(path, f"{run.folder.name}-{uuid.uuid4().hex[:8]}".encode())
    return path.read_text()


@dataclass(frozen=True)
class RunLogger:
    """One logger of one attempt of a run."""

    logger: Logger
    """Lightning calls it on the first rank alone."""
    picture: Callable[[Image.Image, int], None] | None = None
    """Logs a picture (RGB) of validation examples after so many optimiser steps; None where it takes none."""
    finish: Callable[[], None] = lambda: None
    """All is written when it returns; called once, on every rank."""
