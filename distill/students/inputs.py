"""What a student is fed: an input of its own, which its recipe names or its first teacher gives."""

from typing import TYPE_CHECKING, Any

from extract.modalities import default_input, input_of
from shards.errors import BadInput

if TYPE_CHECKING:
    from distill.holding import Holding
    from extract.modalities.base import InputSpec


def student_inputs(holding: "Holding", given: dict[str, Any] | None = None) -> "InputSpec":
    """The first teacher's input, or the modality's default without a teacher, with what a recipe's `input` says of it.

    Raises BadInput where the recipe's fields are no such input's.
    """
    inputs = _inputs_of(holding)[0] if holding.targetsets else default_input(holding.viewset.codec)
    if given is None:
        return inputs
    described = inputs.describe()
    if unknown := sorted(given.keys() - described.keys()):
        known = ", ".join(described)
        raise BadInput(f"--recipe: input: unknown {', '.join(map(str, unknown))}; it has {known}")
    return input_of("--recipe: input", inputs.modality, described | given)


def input_choice(holding: "Holding") -> str:
    """What to tell where the teachers are fed otherwise and the recipe names no input; empty where they are alike."""
    described = [inputs.describe() for inputs in _inputs_of(holding)]
    names = [targetset.manifest["teacher"] for targetset in holding.targetsets]
    for name, other in zip(names, described, strict=True):
        if fields := [field for field in described[0] if other.get(field) != described[0][field]]:
            taken = ", ".join(f"{field} {_shown(described[0][field])}" for field in fields)
            return (
                f"the teachers are fed otherwise: the student takes {names[0]}'s {taken}, not {name}'s; "
                f"a recipe's `input: {{{', '.join(f'{field}: ...' for field in fields)}}}` says others"
            )
    return ""


def _inputs_of(holding: "Holding") -> list["InputSpec"]:
    modality = holding.viewset.codec.modality
    return [
        input_of(str(targetset.folder), modality, targetset.identity["teacher"]["preprocessing"])
        for targetset in holding.targetsets
    ]


def _shown(value: Any) -> str:
    return "/".join(f"{number:g}" for number in value) if isinstance(value, list | tuple) else str(value)
