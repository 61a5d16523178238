"""Arguments: one frozen dataclass becomes a command's flags, its --help, --config file and saved configuration."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from shards.errors import BadInput

Config = TypeVar("Config")


def parse(config_class: type[Config], program: str, arguments: list[str] | None, description: str) -> Config:
    """The command line as a `config_class`; its fields' docstrings are the help.

    Unknown and ill-typed flags and configuration keys raise BadInput. --help and --print_config exit at once, before
    anything heavy is imported.
    """
    import jsonargparse

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(prog=program, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="a YAML file of these flags, as --print_config prints it")
    parser.add_class_arguments(config_class, as_group=False)
    try:
        values = parser.parse_args(arguments)
    except jsonargparse.ArgumentError as error:
        raise BadInput(f"{_near_flag(str(error), config_class)}; python -m {program} --help lists the flags") from None
    return config_class(**{field.name: _plain(values[field.name]) for field in dataclasses.fields(config_class)})  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    """jsonargparse's own path and namespace types as the plain ones."""
    return dict(vars(value)) if type(value).__name__ == "Namespace" else value


def _near_flag(message: str, config_class: type) -> str:
    import difflib

    words = [word.lstrip("-").split("=")[0] for word in message.split() if word.startswith("--")]
    names = [field.name for field in dataclasses.fields(config_class)]
    near = [match for word in words if word not in names for match in difflib.get_close_matches(word, names, 1)]
    return message.strip().rstrip(".") + (f" (did you mean --{near[0]}?)" if near else "")


def as_yaml(values: dict[str, Any]) -> bytes:
    """A configuration as the YAML that --config reads back."""
    import yaml

    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return yaml.safe_dump(plain, sort_keys=False).encode()
