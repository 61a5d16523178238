"""What a student is fed: its own mean and deviation of pixels, named by its recipe or taken over from its teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from extract.normalise import IMAGENET_MEAN, IMAGENET_STD
from shards.errors import BadInput
from shards.reader import TargetSet

_MAX_NUMBER = 1e6


@dataclass(frozen=True)
class StudentInput:
    """Square images of stored pixels in [0, 1], minus `mean`, over `std`, per RGB channel."""

    image_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    choice: str = ""
    """What to tell of the choice where several teachers are fed otherwise and the recipe names none."""


def student_input(given: Mapping[str, Any] | None, targetsets: Sequence[TargetSet], image_size: int) -> StudentInput:
    """The recipe's `input`; without it the first teacher's, or ImageNet's mean and deviation without a teacher.

    Raises BadInput where the recipe's is no such input, or is for images of another size than the stored ones.
    """
    if given is not None:
        return _read(given, image_size)
    values = [targetset.identity["teacher"]["preprocessing"] for targetset in targetsets]
    inputs = [StudentInput(image_size, tuple(one["mean"]), tuple(one["std"])) for one in values]
    if not inputs:
        return StudentInput(image_size)
    first = inputs[0]
    if all(other == first for other in inputs):
        return first
    names = [targetset.manifest["teacher"] for targetset in targetsets]
    other = next(name for name, one in zip(names, inputs, strict=True) if one != first)
    choice = (
        f"the teachers normalise otherwise: the student takes the mean {_shown(first.mean)} and std "
        f"{_shown(first.std)} of {names[0]}, not those of {other}; "
        "a recipe's `input: {mean: ..., std: ...}` says others"
    )
    return StudentInput(image_size, first.mean, first.std, choice)


def _read(given: Mapping[str, Any], image_size: int) -> StudentInput:
    if unknown := sorted(given.keys() - {"image_size", "mean", "std"}):
        raise BadInput(f"--recipe: input: unknown {', '.join(map(str, unknown))}; it has mean, std and image_size")
    for name in ("mean", "std"):
        if not _are_three_numbers(given.get(name)) or (name == "std" and min(given[name]) <= 0):
            expected = "three numbers above 0" if name == "std" else "three numbers"
            raise BadInput(f"--recipe: input: {name}: expected {expected}, found {given.get(name)!r:.80}")
    if given.get("image_size", image_size) != image_size:
        raise BadInput(
            f"--recipe: input: image_size {given['image_size']}: the stored views have {image_size} pixels; "
            "leave it out, or extract views of that size"
        )
    return StudentInput(image_size, tuple(map(float, given["mean"])), tuple(map(float, given["std"])))


def _are_three_numbers(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(number) in (int, float) and abs(number) < _MAX_NUMBER for number in value)
    )


def _shown(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in values)
