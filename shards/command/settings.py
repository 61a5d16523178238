"""Settings: recipes and presets are read here alone, each a YAML file that becomes a frozen dataclass.

The range of a field stands in its type (shards/command/ranges.py); flags take the place of the fields of their name.
"""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from shards.command.arguments import in_our_words, near
from shards.command.ranges import check_fields
from shards.errors import BadInput, UnknownName
from shards.plain_yaml import read_yaml

Settings = TypeVar("Settings")


def names_in(folder: Path) -> list[str]:
    """The settings that come with the project in `folder`."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_named_yaml(flag: str, name: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """The fields in the YAML file called `name` in `folder` or, where `name` ends in .yaml, in that file; and its path.

    `flag`, which gives the name, is what errors begin with.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        if path.parent == folder:
            raise UnknownName(flag, name, names_in(folder))
        raise BadInput(f"--{flag} {name}: no such file; known {flag}s are {', '.join(names_in(folder))}")
    try:
        values = read_yaml(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"--{flag} {path}: not YAML ({error}); mend it") from None
    if not isinstance(values, dict):
        raise BadInput(f"--{flag} {path}: expected fields and their values, as in {folder}")
    return values, path


def parse_settings(kind: type[Settings], values: dict[str, Any], where: str) -> Settings:
    """The fields `values` as a `kind`.

    BadInput, which begins with `where`, for a field that is unknown, missing, ill-typed or out of range.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in (name for name in values if name not in known):
        raise BadInput(f"{where}: no such field: {name}{near(str(name), known)}; known are {', '.join(known)}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, as_group=False)
    try:
        parsed = parser.parse_object(values)
    except ArgumentError as error:
        raise BadInput(in_our_words(str(error), kind, f"{where}: ")) from None
    plain = {name: parsed[name] for name in known}
    check_fields(kind, plain, f"{where}: ")
    return kind(**plain)


def given_flags(kind: type, config: Any) -> dict[str, Any]:
    """The flags of `config` that were given and take the place of a field of `kind`, whose name they have."""
    named = {field.name: getattr(config, field.name, None) for field in dataclasses.fields(kind)}
    return {name: value for name, value in named.items() if value is not None}


def as_values(settings: Any) -> dict[str, Any]:
    """The settings as plain values, to be saved as YAML and read back."""
    values = dataclasses.asdict(settings)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
