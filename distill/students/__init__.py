"""Students: the network to train, by its spec (an architecture and its arguments)."""

from typing import TYPE_CHECKING, Any

from extract.networks import architecture_names, build_network
from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from torch import nn


def parse_student(spec: str) -> tuple[str, dict[str, Any]]:
    """`resnet8:width=32,depth=2` as the architecture and its arguments."""
    import yaml

    architecture, _, options = spec.partition(":")
    if architecture not in architecture_names():
        raise UnknownName("student", architecture, architecture_names())
    arguments = {}
    for option in filter(None, options.split(",")):
        name, equals, value = option.partition("=")
        if not equals:
            raise BadInput(f"--student {spec}: expected NAME:ARGUMENT=VALUE,..., found {option!r}")
        try:
            arguments[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadInput(f"--student {spec}: expected a number for {name}, found {value!r}") from None
    return architecture, arguments


def build_student(spec: str, num_classes: int) -> "nn.Module":
    """The student of `spec`, its head as wide as the logits it is to match."""
    architecture, arguments = parse_student(spec)
    return build_network(architecture, num_classes, **arguments)
