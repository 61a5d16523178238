"""Loggers: where a run's numbers and example pictures go, by the names of --logger; one file and one line each.

A module of this folder offers `open_logger(run) -> RunLogger`. What it needs beside this project's own dependencies is
the extra of its name. Importing this registry imports none of them.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from distill.loggers.base import LoggedRun, RunLogger

DEFAULT = "csv"
"""Every run has it, whatever else it has: `python -m shards page` draws its curves from there."""
REGISTRY = {
    DEFAULT: "distill.loggers.csv",
    "tensorboard": "distill.loggers.tensorboard",
    "trackio": "distill.loggers.trackio",
    "wandb": "distill.loggers.wandb",
}
_PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio"}
"""Those that an extra of the logger's name installs."""


def logger_names(text: str) -> list[str]:
    """The loggers in `text`, separated by commas, once each and `csv` first.

    BadInput for one that is not in the registry, and for one whose package is not installed.
    """
    given = [name for name in (name.strip() for name in text.split(",")) if name]
    for name in given:
        if name not in REGISTRY:
            raise UnknownName("logger", name, REGISTRY)
        if name in _PACKAGES and importlib.util.find_spec(_PACKAGES[name]) is None:
            missing = f"the package {_PACKAGES[name]} is not installed"
            raise BadInput(f"--logger {name}: {missing}; pip install 'teacher-shards[{name}]'")
    return list(dict.fromkeys([DEFAULT, *given]))


def open_loggers(text: str, run: "LoggedRun") -> "list[RunLogger]":
    """The loggers in `text` for one attempt of a run."""
    return [importlib.import_module(REGISTRY[name]).open_logger(run) for name in logger_names(text)]
