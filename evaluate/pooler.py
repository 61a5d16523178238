"""Pooler: BERT's layer on [CLS], which no target needs and no student has, taken from the files of its teacher."""

from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from evaluate.evaluation import Evaluation
from extract.sources.hub import local_folder
from extract.teachers.base import sha256_of_state
from shards.listing import saved_flags

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
    learned_from = evaluation.trained.targetsets if evaluation.trained else []
    flags = [saved_flags(each.folder).get("teacher") for each in learned_from]
    for spec in [evaluation.config.teacher] if evaluation.config.teacher else flags:
        folder = _folder(str(spec))
        if folder is not None and (pooler := _read(folder)):
            return pooler
    return None


def _folder(spec: str) -> Path | None:
    """Where a model of `transformers` lies here: its folder, or what was downloaded of it."""
    from huggingface_hub import try_to_load_from_cache

    scheme, _, identifier = spec.partition(":")
    if scheme != "hf" or not identifier:
        return None
    if (folder := local_folder(identifier)) or "/" not in identifier:
        return folder
    downloaded = try_to_load_from_cache(identifier, "config.json")
    return Path(downloaded).parent if isinstance(downloaded, str) else None


def _read(folder: Path) -> Pooler | None:
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (the reader is no mapping)
                found |= {name: tensors.get_tensor(key).float() for name in _NAMES if key.endswith(name)}
    return Pooler(*(found[name] for name in _NAMES)) if len(found) == len(_NAMES) else None
