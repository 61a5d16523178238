"""Networks by name: classifiers return {"logits", "pooled"}, dense networks features by name; one line names a new one.

Importing this registry does not import torch: the module behind a name is imported when the name is asked for.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from extract.networks.exported import MAX_SIZE, export_network, exported_input, input_document, load_exported
from shards.command.ranges import COUNT, SHARE_BELOW_ONE, alternatives, whole
from shards.command.specs import entry_of
from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    import torch

__all__ = [
    "MAX_SIZE",
    "architecture_names",
    "base_lr",
    "build_network",
    "export_network",
    "exported_input",
    "input_document",
    "load_exported",
]

REGISTRY = {
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
    "timm:NAME": "timm_models",
}
DENSE_REGISTRY = {
    "data2vec2": "data2vec2",
    "encoder": "text_encoder",
    "text_conv": "text_conv",
    "pair": "pair",
    "align": "align",
}
"""Networks without classes, whose outputs are features, a row an image or a row a token."""
_ARGUMENTS = {int: whole(1, MAX_SIZE), float: SHARE_BELOW_ONE}


def architecture_names() -> list[str]:
    """The classifiers that `build_network` knows by a name of their own, sorted; those of a library go beside them."""
    return sorted(name for name in REGISTRY if ":" not in name)


def base_lr(architecture: str) -> float:
    """AdamW's peak learning rate for batches of 256, as the network's module states it and its source."""
    rate: float = _module(architecture).BASE_LR
    return rate


def _module(architecture: str) -> Any:
    modules = REGISTRY | DENSE_REGISTRY
    entry = entry_of(architecture, modules)
    if entry not in modules:
        raise UnknownName("architecture", architecture, modules)
    return importlib.import_module(f"extract.networks.{modules[entry]}")


def build_network(architecture: str, num_classes: int | None, **arguments: Any) -> "torch.nn.Module":
    """A freshly initialised network whose forward maps normalised images to outputs by name.

    `num_classes` is None for a dense network, and for no other. Raises UnknownName for an unknown architecture and
    BadInput for an argument that it does not take.
    """
    module = _module(architecture)
    if architecture not in DENSE_REGISTRY:
        COUNT.check(f"network {architecture}: num_classes", num_classes)
    elif num_classes is not None:
        raise BadInput(f"network {architecture}: gives features, no classes, so num_classes must be null")
    build: Callable[..., torch.nn.Module] = module.build
    parameters = inspect.signature(build).parameters
    accepted = {name: parameters[name] for name in list(parameters)[2:]}
    for name, value in arguments.items():
        if name not in accepted:
            takes = f"it takes {', '.join(accepted)}" if accepted else "it takes no arguments"
            raise BadInput(f"network {architecture}: unknown argument {name!r}; {takes}")
        kind = alternatives(accepted[name].annotation)[0]
        if kind in _ARGUMENTS:
            _ARGUMENTS[kind].check(f"network {architecture}: {name}", value)
        elif not isinstance(value, dict):
            raise BadInput(f"network {architecture}: {name} must be an object, found {value!r:.80}")
    if missing := [name for name, one in accepted.items() if one.default is one.empty and name not in arguments]:
        raise BadInput(f"network {architecture}: needs the arguments {', '.join(missing)}")
    return build(architecture, num_classes, **arguments)
