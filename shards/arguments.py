"""Arguments: one frozen dataclass becomes a command's flags, its --help, --config file and saved configuration."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, TypeVar

from shards.errors import BadInput

Config = TypeVar("Config")


def parse(
    config_class: type[Config], program: str, arguments: list[str] | None, description: str, positional: str = ""
) -> Config:
    """The command line as a `config_class`; its fields' docstrings are the help.

    The field `positional` is given without a flag, once or, where it is a tuple, once or more. A flag that is true or
    false may stand alone: --wandb is --wandb true.

    Unknown and ill-typed flags and configuration keys raise BadInput. --help and --print_config exit at once, before
    anything heavy is imported.
    """
    import jsonargparse

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(prog=program, description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of these flags, as --print_config prints it")
    if positional:
        _add_positional(parser, config_class, positional)
    parser.add_class_arguments(config_class, as_group=False, skip={positional} - {""})
    switches = [f"--{field.name}" for field in _fields(config_class) if field.type in (bool, bool | None)]
    try:
        values = parser.parse_args(_switched(sys.argv[1:] if arguments is None else arguments, switches))
    except jsonargparse.ArgumentError as error:
        raise BadInput(f"{_near_flag(str(error), config_class)}; python -m {program} --help lists the flags") from None
    return config_class(**{field.name: _plain(values[field.name]) for field in _fields(config_class)})


def _fields(config_class: type) -> tuple["dataclasses.Field[Any]", ...]:
    return dataclasses.fields(config_class)


def _switched(arguments: list[str], switches: list[str]) -> list[str]:
    """`arguments` with --flag=true for each switch that stands alone; --flag true and --flag=false stay as they are."""
    pairs = zip(arguments, [*arguments, ""][1:], strict=True)
    alone = [flag in switches and value not in ("true", "false", "null") for flag, value in pairs]
    return [f"{flag}=true" if bare else flag for flag, bare in zip(arguments, alone, strict=True)]


def _add_positional(parser: Any, config_class: type, name: str) -> None:
    import docstring_parser

    several = next(field.type for field in _fields(config_class) if field.name == name) is not str
    documented = docstring_parser.parse_from_object(config_class).params
    text = next((parameter.description for parameter in documented if parameter.arg_name == name), None)
    parser.add_argument(name, nargs="+" if several else None, type=str, metavar="PATH", help=text)


def _plain(value: Any) -> Any:
    """jsonargparse's own path, namespace and list types as the plain ones."""
    if isinstance(value, list):
        return tuple(value)
    return dict(vars(value)) if type(value).__name__ == "Namespace" else value


def _near_flag(message: str, config_class: type) -> str:
    import difflib

    words = [word.lstrip("-").split("=")[0] for word in message.split() if word.startswith("--")]
    names = [field.name for field in _fields(config_class)]
    near = [match for word in words if word not in names for match in difflib.get_close_matches(word, names, 1)]
    return message.strip().rstrip(".") + (f" (did you mean --{near[0]}?)" if near else "")


def as_yaml(values: dict[str, Any]) -> bytes:
    """A configuration as the YAML that --config reads back."""
    import yaml

    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return yaml.safe_dump(plain, sort_keys=False).encode()
