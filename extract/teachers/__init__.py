"""Teachers by name; naming one here is all that a new one needs.

A module of this folder offers `load(spec, weights, image_size) -> Teacher`. Importing this registry does not import
torch: the module behind a name is imported when the name is asked for.
"""

import importlib
import inspect
from typing import TYPE_CHECKING

from extract.networks import MAX_SIZE
from shards.command.specs import entry_of
from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    import extract.teachers.base

__all__ = ["load_teacher", "teacher_names"]

REGISTRY = {
    "bert": "hugging_face",
    "beitv2": "beitv2",
    "data2vec2": "data2vec2",
    "data2vec2-large": "data2vec2",
    "data2vec2-huge": "data2vec2",
    "data2vec2-text": "data2vec2_text",
    "resnet18": "torchvision_resnets",
    "resnet34": "torchvision_resnets",
    "resnet50": "torchvision_resnets",
    "resnet101": "torchvision_resnets",
    "resnet152": "torchvision_resnets",
    "efficientnet_lite0": "efficientnet_lite0",
    "hf:ID|DIR": "hugging_face",
    "run:DIR": "run",
    "timm:NAME|DIR": "timm_models",
}


def teacher_names() -> list[str]:
    """The specs `load_teacher` knows, sorted; behind a colon stands what the spec names there, as DIR for a folder."""
    return sorted(REGISTRY)


def load_teacher(
    spec: str, weights: str | None = None, image_size: int | None = None, weights_key: str | None = None
) -> "extract.teachers.base.Teacher":
    """The teacher `spec`, frozen, on the CPU; `image_size` takes the place of its own, `weights_key` picks among the
    several weights that one file may hold.

    Raises UnknownName for an unknown spec, SourceUnavailable when its weights cannot be downloaded, BadInput when they
    are not what the teacher needs.
    """
    entry = entry_of(spec, REGISTRY)
    if entry not in REGISTRY:
        raise UnknownName("teacher", spec, REGISTRY)
    if image_size is not None and not 1 <= image_size <= MAX_SIZE:
        raise BadInput(f"--view size={image_size}: expected 1 to {MAX_SIZE}")
    module = importlib.import_module(f"extract.teachers.{REGISTRY[entry]}")
    parameters = inspect.signature(module.load).parameters
    # what takes a size of any unit tells pixels from tokens itself
    size = image_size if image_size is None or "size" in parameters else int(image_size)
    choice = {"weights_key": weights_key} if weights_key is not None else {}
    if choice and "weights_key" not in parameters:
        raise BadInput(f"--weights :key={weights_key}: the weights of {spec} come in one kind; leave key= out")
    teacher: extract.teachers.base.Teacher = module.load(spec, weights, size, **choice)
    return teacher
