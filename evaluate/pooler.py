"""Pooler: BERT's layer on [CLS], which no target needs and no student has, taken from the files of its teacher."""

from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from evaluate.evaluation import Evaluation
from extract.teachers.base import sha256_of_state
from extract.teachers.hugging_face import folder_here

_NAMES = ("pooler.dense.weight", "pooler.dense.bias")


class Pooler(NamedTuple):
    """The layer's weights."""

    weight: Float[Tensor, "width width"]
    bias: Float[Tensor, " width"]

    @property
    def sha256(self) -> str:
        """Of both."""
        return sha256_of_state(dict(zip(_NAMES, self, strict=True)))


def teacher_pooler(evaluation: Evaluation) -> Pooler | None:
    """The pooler of the teacher of --teacher, else of those that the run learned from; None where there is none.

    A teacher of `transformers` has one where its files here do, safetensors alone.
    """
    flags = [flags for _, flags in evaluation.learned_from]
    if (spec := evaluation.config.teacher) is not None:
        flags = [each for each in flags if each.get("teacher") == spec] or [{"teacher": spec}]
    for teacher in flags:
        folder = folder_here(str(teacher.get("teacher")), teacher.get("weights"))
        if folder is not None and (pooler := _read(folder)):
            return pooler
    return None


def _read(folder: Path) -> Pooler | None:
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (the reader is no mapping)
                found |= {name: tensors.get_tensor(key).float() for name in _NAMES if key.endswith(name)}
    return Pooler(*(found[name] for name in _NAMES)) if len(found) == len(_NAMES) else None
