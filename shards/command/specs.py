"""Specs: `NAME` or `NAME:ARGUMENT=VALUE,...`, as students and objectives are named on a command line and in recipes."""

from typing import Any

from shards.errors import BadInput


def parse_spec(flag: str, spec: str) -> tuple[str, dict[str, Any]]:
    """The name and its arguments: `resnet8:width=32` is ("resnet8", {"width": 32})."""
    import yaml

    name, _, options = spec.partition(":")
    arguments = {}
    for option in filter(None, options.split(",")):
        argument, equals, value = option.partition("=")
        if not equals or not argument:
            raise BadInput(f"--{flag} {spec}: expected NAME:ARGUMENT=VALUE,..., found {option!r}")
        try:
            arguments[argument] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadInput(f"--{flag} {spec}: expected a number for {argument}, found {value!r}") from None
    return name, arguments
