"""Pooler: BERT's layer on [CLS], which no target needs and no student has, taken from the files of its teacher."""

from pathlib import Path

from torch import Tensor

from evaluate.evaluation import Evaluation
from extract.teachers.hugging_face import folder_here
from shards.errors import BadInput, one_line

PREFIX = "pooler.dense."
_NAMES = (f"{PREFIX}weight", f"{PREFIX}bias")


def teacher_pooler(evaluation: Evaluation) -> dict[str, Tensor] | None:
    """The pooler of the teacher of --teacher, else of those that the run learned from; None where there is none.

    Float32, `weight` (width, width) and `bias` (width,) under `PREFIX`. A teacher of `transformers` has one where its
    safetensors are here and do.
    """
    flags = [flags for _, flags in evaluation.stored.learned_from]
    if (spec := evaluation.config.teacher) is not None:
        flags = [each for each in flags if each.get("teacher") == spec] or [{"teacher": spec}]
    for teacher in flags:
        folder = folder_here(str(teacher.get("teacher")), teacher.get("weights"))
        if folder is not None and (pooler := _read(folder)):
            return pooler
    return None


def _read(folder: Path) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError, safe_open

    pooler: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (the reader is no mapping)
                    pooler |= {name: tensors.get_tensor(key).float() for name in _NAMES if key.endswith(name)}
        except SafetensorError as error:
            raise BadInput(f"{file}: is damaged ({one_line(error)}); fetch the teacher's weights again") from None
    return pooler if len(pooler) == len(_NAMES) else None
