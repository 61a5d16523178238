"""Networks by name: every one returns {"logits", "pooled"}; naming one here is all that a new one needs.

Importing this registry does not import torch: the module behind a name is imported when the name is asked for.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from extract.networks.exported import MAX_SIZE, export_network, load_exported
from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    import torch

__all__ = ["MAX_SIZE", "architecture_names", "build_network", "export_network", "load_exported"]

_MODULES = {
    "resnet18": "torchvision_models",
    "resnet34": "torchvision_models",
    "resnet50": "torchvision_models",
    "resnet101": "torchvision_models",
    "resnet152": "torchvision_models",
    "mobilenet_v3_small": "torchvision_models",
    "mobilenet_v3_large": "torchvision_models",
    "resnet8": "resnet_cifar",
    "resnet20": "resnet_cifar",
    "resnet56": "resnet_cifar",
    "convnet": "convnet",
}


def architecture_names() -> list[str]:
    """The names `build_network` knows, sorted."""
    return sorted(_MODULES)


def build_network(architecture: str, num_classes: int, **arguments: Any) -> "torch.nn.Module":
    """A freshly initialised network whose forward maps normalised images to {"logits", "pooled"}.

    Raises UnknownName for an unknown architecture and BadInput for an argument that it does not take.
    """
    if architecture not in _MODULES:
        raise UnknownName("architecture", architecture, _MODULES)
    if num_classes < 1:
        raise BadInput(f"network {architecture}: num_classes must be at least 1, found {num_classes}")
    build: Callable[..., torch.nn.Module] = importlib.import_module(f"extract.networks.{_MODULES[architecture]}").build
    accepted = dict(list(inspect.signature(build).parameters.items())[2:])
    for name, value in arguments.items():
        if name not in accepted:
            takes = f"it takes {', '.join(accepted)}" if accepted else "it takes no arguments"
            raise BadInput(f"network {architecture}: unknown argument {name!r}; {takes}")
        # every argument there is today is a count; a new kind needs its own check here
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise BadInput(f"network {architecture}: {name} must be a whole number, 1 to {MAX_SIZE}, found {value!r}")
    return build(architecture, num_classes, **arguments)
