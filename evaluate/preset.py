"""Preset: a task's hyperparameters in one YAML file; the task and the data pick the one that fits."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeVar

from evaluate.config import EvaluateConfig
from shards.command.ranges import (
    Betas,
    Count,
    CountFromZero,
    NotNegative,
    Positive,
    Share,
    ShareAboveZero,
    ShareBelowOne,
    Span,
    whole,
)
from shards.command.settings import as_values, given_flags, names_in, parse_settings, read_named_yaml
from shards.command.specs import parse_spec
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
    """How AdamW trains; the learning rate warms up linearly over a share of the steps, then falls to zero."""

    epochs: Count
    batch_size: Count
    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NotNegative
    warmup: Share


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(OptimiserSettings):
    """How a whole network is fine-tuned."""

    layer_decay: ShareAboveZero
    """The learning rate of a block, as a share of the next one's; 1: all are alike."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(TrainingSettings):
    """How a network of images is fine-tuned, and how its training views are augmented."""

    label_smoothing: ShareBelowOne
    mixup: NotNegative
    """Alpha of its Beta distribution, 0 for none; cutmix likewise."""
    cutmix: NotNegative
    switch: Share
    """The share of batches that CutMix mixes, mixup the others."""
    crop_scale: Span
    flip: Share
    randaugment_ops: CountFromZero
    randaugment_magnitude: Annotated[int, whole(0, 30)]
    random_erasing: Share


SettingsType = TypeVar("SettingsType", bound=Settings)


def preset_names() -> list[str]:
    """The presets that come with the project."""
    return names_in(FOLDER)


def read_preset(preset: str | dict[str, Any]) -> dict[str, Any]:
    """The fields of a preset, of that name or in that YAML file, and changes; from a saved configuration themselves."""
    if isinstance(preset, dict):
        values, name = preset, "of the configuration"
    else:
        named, changes = parse_spec("preset", preset)
        values, path = read_named_yaml("preset", named, FOLDER)
        values, name = values | changes, path.stem
    if not isinstance(values.get("task"), str):
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
        of_task = [values for values in map(read_preset, preset_names()) if values["task"] == task]
        if len(of_task) > 1:  # only then is it needed what the data is
            of_task = [values for values in of_task if fnmatchcase(data(), values["fits"])]
        values = max(of_task, key=lambda values: len(values.get("fits", "")))  # the closest pattern
    given = {name: value for name, value in given_flags(kind, config).items() if name not in ("preset", "task")}
    return parse_settings(kind, values | given, f"--preset {values['preset']}")


def as_facts(settings: Settings) -> dict[str, Any]:
    """The settings as a task's record has them: the preset's name and every hyperparameter."""
    return {name: value for name, value in as_values(settings).items() if name not in ("task", "fits")}
