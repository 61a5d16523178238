"""Preset: a task's hyperparameters in one YAML file; the task and the data pick the one that fits."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from evaluate.config import EvaluateConfig
from shards.command.arguments import read_named_yaml
from shards.errors import BadInput

FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every preset says; a task's own Settings add its hyperparameters, none of them with a default."""

    preset: str
    """Its name."""
    task: str
    fits: str = "*"
    """A pattern on --data, by which the preset of a task is picked."""


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings(Settings):
    """How AdamW trains: linear warm-up over a share of the steps, then a cosine to zero."""

    epochs: int
    batch_size: int
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    warmup: float


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(OptimiserSettings):
    """How a whole network is fine-tuned, and how its training views are augmented."""

    layer_decay: float
    label_smoothing: float
    mixup: float
    """Alpha of its Beta distribution, 0 for none; cutmix likewise."""
    cutmix: float
    switch: float
    """The share of batches that CutMix mixes, mixup the others."""
    crop_scale: tuple[float, float]
    flip: float
    randaugment_ops: int
    randaugment_magnitude: int
    random_erasing: float


SettingsType = TypeVar("SettingsType", bound=Settings)


def preset_names() -> list[str]:
    """The presets that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_preset(preset: str | dict[str, Any]) -> dict[str, Any]:
    """The fields of a preset: of that name, in that YAML file, or (from a saved configuration) themselves."""
    if isinstance(preset, dict):
        values, name = preset, "of the configuration"
    else:
        values, path = read_named_yaml("preset", preset, FOLDER)
        name = path.stem
    if not isinstance(values, dict) or not isinstance(values.get("task"), str):
        raise BadInput(f"--preset {preset}: expected fields such as task and epochs; see {FOLDER}/linear.yaml")
    return {"preset": name} | values


def check_preset(config: EvaluateConfig, tasks: list[str]) -> None:
    """--preset, where it is given, is for one of `tasks`; BadInput otherwise."""
    if config.preset is not None and (task := read_preset(config.preset)["task"]) not in tasks:
        raise BadInput(f"--preset {config.preset}: is for --task {task}; give that task, or leave --preset out")


def resolve(task: str, kind: type[SettingsType], config: EvaluateConfig, data: Callable[[], str]) -> SettingsType:
    """The hyperparameters of `task`: of --preset, else of the preset that fits the data, and flags in place of them.

    Raises BadInput, in one line, for a field that is unknown, missing, ill-typed or outside its range.
    """
    values = read_preset(config.preset) if config.preset is not None else {}
    if values.get("task") != task:
        values = _fitting(task, data)
    given = {one.name: getattr(config, one.name, None) for one in fields(kind) if one.name != "preset"}
    given = {name: value for name, value in given.items() if value is not None and name != "task"}
    settings = _parsed(kind, values | given)
    for name, (holds, expected) in _RANGES.items():
        if hasattr(settings, name) and not holds(getattr(settings, name)):
            where = f"--{name}" if name in given else f"--preset {settings.preset}: {name}"
            raise BadInput(f"{where} {getattr(settings, name)}: expected {expected}")
    return settings


def _fitting(task: str, data: Callable[[], str]) -> dict[str, Any]:
    of_task = [values for values in map(read_preset, preset_names()) if values["task"] == task]
    if len(of_task) > 1:
        of_task = [values for values in of_task if fnmatchcase(data(), values["fits"])]
    return max(of_task, key=lambda values: len(values.get("fits", "")))  # the closest pattern


def _parsed(kind: type[SettingsType], values: dict[str, Any]) -> SettingsType:
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, as_group=False)
    try:
        parsed = parser.parse_object(values)
    except ArgumentError as error:
        raise BadInput(f"--preset {values['preset']}: {error}") from None
    known = {one.name: parsed[one.name] for one in fields(kind)}
    plain: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in known.items()}
    return kind(**plain)


def as_values(settings: Settings) -> dict[str, Any]:
    """The settings as plain values, to be saved beside a run and read back by `read_preset`."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


def as_facts(settings: Settings) -> dict[str, Any]:
    """The settings as a task's record has them: the preset's name and every hyperparameter."""
    return {name: value for name, value in as_values(settings).items() if name not in ("task", "fits")}


_SHARE = (lambda value: 0 <= value <= 1, "0 to 1")
_POSITIVE = (lambda value: 0 < value < math.inf, "more than 0")
_NOT_NEGATIVE = (lambda value: 0 <= value < math.inf, "0 or more")
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("epochs", "batch_size", "lr", "eps", "k", "temperature"), _POSITIVE),
    **dict.fromkeys(("weight_decay", "mixup", "cutmix", "randaugment_ops"), _NOT_NEGATIVE),
    **dict.fromkeys(("warmup", "switch", "flip", "random_erasing"), _SHARE),
    "layer_decay": (lambda value: 0 < value <= 1, "more than 0, at most 1"),
    "label_smoothing": (lambda value: 0 <= value < 1, "0 or more, less than 1"),
    "betas": (lambda value: all(0 <= beta < 1 for beta in value), "0 or more, less than 1"),
    "crop_scale": (lambda value: 0 < value[0] <= value[1] <= 1, "two shares of the image, the smaller one first"),
    "randaugment_magnitude": (lambda value: 0 <= value <= 30, "0 to 30"),
}
