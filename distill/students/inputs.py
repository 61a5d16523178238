"""What a student is fed: an input of its own, named by its recipe or taken over from its first teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

from extract.modalities import default_input, input_of
from extract.modalities.base import InputSpec, mismatch
from shards.errors import BadInput
from shards.reader import TargetSet, ViewSet


def student_input(
    given: Mapping[str, Any] | None, viewset: ViewSet, targetsets: Sequence[TargetSet]
) -> tuple[InputSpec, str]:
    """The first teacher's, or the modality's default without a teacher, with what the recipe's `input` says of it.

    The text tells of the choice where several teachers are fed otherwise and the recipe names none, else it is empty.
    BadInput where the recipe's is no such input, or does not take the stored views.
    """
    modality = viewset.codec.modality
    described = [targetset.identity["teacher"]["preprocessing"] for targetset in targetsets]
    folders = [str(targetset.folder) for targetset in targetsets]
    beside = viewset.folder
    inputs = [input_of(folder, modality, each, beside) for folder, each in zip(folders, described, strict=True)]
    default = default_input(viewset.codec)
    alike = [(each, name) for each, name in zip(inputs, (t.manifest.teacher for t in targetsets), strict=True)]
    alike = [(each, name) for each, name in alike if type(each) is type(default)]  # others read another part of views
    first = alike[0][0] if alike else default
    if given is not None:
        if unknown := sorted(given.keys() - first.describe().keys()):
            raise BadInput(
                f"--recipe: input: unknown {', '.join(map(str, unknown))}; it has {', '.join(first.describe())}"
            )
        chosen = input_of("--recipe: input", modality, first.describe() | dict(given), beside)
        if found := mismatch(chosen, viewset.codec):
            raise BadInput(f"--recipe: input: of {viewset.folder} {found}; leave it out, or extract such views")
        return chosen, ""
    if all(each == first for each, _ in alike):
        return first, ""
    otherwise, other = next((each, name) for each, name in alike if each != first)
    differing = [field for field, value in first.describe().items() if otherwise.describe()[field] != value]
    values = ", ".join(f"{field} {_shown(first.describe()[field])}" for field in differing)
    return first, (
        f"the teachers are fed otherwise: the student takes the {values} of {alike[0][1]}, not those of {other}; "
        "a recipe's `input` says others"
    )


def _shown(value: Any) -> str:
    return "/".join(f"{number:g}" for number in value) if isinstance(value, (list, tuple)) else str(value)
