"""Specs: `NAME` or `NAME:ARGUMENT=VALUE,...`, as students and objectives are named on a command line and in recipes.

The networks of a library stand in a registry as `timm:NAME`; one of them is named `timm:resnet18`, with arguments
`timm:resnet18:drop_rate=0.1`.
"""

from collections.abc import Iterable
from typing import Any

from shards.errors import BadInput
from shards.plain_yaml import read_yaml

LIBRARIES = ("timm",)
"""Names behind whose colon stands a name of theirs."""


def entry_of(name: str, registry: Iterable[str]) -> str:
    """The entry of `registry` for `name`: `timm:NAME` of `timm:resnet18`, else what stands before the colon."""
    kind, colon, _ = name.partition(":")
    return next((entry for entry in registry if colon and entry.startswith(f"{kind}:")), kind)


def name_of(spec: str) -> str:
    """The name alone: `timm:vit_tiny:depth=2` is `timm:vit_tiny`; what follows may be of a form of its own."""
    name, _, options = spec.partition(":")
    return f"{name}:{options.partition(':')[0]}" if name in LIBRARIES else name


def parse_spec(flag: str, spec: str) -> tuple[str, dict[str, Any]]:
    """The name and its arguments: `resnet8:width=32` is ("resnet8", {"width": 32})."""
    name = name_of(spec)
    options, arguments = spec[len(name) + 1 :], {}
    for option in filter(None, options.split(",")):
        argument, equals, value = option.partition("=")
        if not equals or not argument:
            raise BadInput(f"--{flag} {spec}: expected NAME:ARGUMENT=VALUE,..., found {option!r}")
        try:
            arguments[argument] = read_yaml(value)
        except ValueError:
            raise BadInput(f"--{flag} {spec}: expected a number for {argument}, found {value!r}") from None
    return name, arguments
