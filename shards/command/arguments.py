"""Arguments: one frozen dataclass becomes a command's flags, its --help, --config file and saved configuration."""

import argparse
import dataclasses
import re
import sys
import typing
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from shards.command.ranges import Options, check_fields, expected
from shards.errors import BadInput
from shards.plain_yaml import read_yaml

Config = TypeVar("Config")


class Aliases(NamedTuple):
    """Former flags, now options of one flag; command lines and saved configurations may still give them."""

    names: tuple[str, ...]
    flag: str
    fold: Callable[[dict[str, str]], str]
    """The flag's value for the values of former flags, by name."""
    repeats: Callable[[dict[str, Any], str], bool] = lambda content, name: False
    """Whether a saved configuration says elsewhere too what it says by a former flag, which is left out then."""
    joins: bool = False
    """Whether `fold` takes the flag's own value too, by the flag's name; else the two cannot be given together."""
    switches: tuple[str, ...] = ()
    """Those of `names` that were true or false, and may stand alone."""


def options_as_flags(flag: str, *names: str) -> Aliases:
    """Options of `flag` that may be flags of their own; BadInput where it says another."""

    def joined(values: dict[str, str]) -> str:
        own = values.pop(flag, "true")
        options = [] if own == "true" else own.split(",")
        for name, value in values.items():
            other = next((each for each in options if each.startswith(f"{name}=")), f"{name}={value}")
            if other != f"{name}={value}":
                raise BadInput(f"--{name} {value}: --{flag} {other} says another; give one of the two")
        return ",".join(dict.fromkeys([*options, *(f"{name}={value}" for name, value in values.items())]))

    return Aliases(names, flag, joined, joins=True)


class Hidden(NamedTuple):
    """A flag that --help leaves out, because an option of another flag says the same."""

    flag: str
    split: Callable[[str], tuple[str | None, str | None]]
    """The value of `flag` without that option, and what the option says; None for either that is not there."""


def parse(
    config_class: type[Config],
    program: str,
    arguments: list[str] | None,
    description: str,
    positional: str = "",
    aliases: Sequence[Aliases] = (),
    hidden: Mapping[str, Hidden | None] = MappingProxyType({}),
) -> Config:
    """The command line as a `config_class`; its fields' docstrings are the help.

    The field `positional` is given without a flag, once or, where it is a tuple, once or more. A flag that is true or
    false may stand alone; so may one of `Options`. `aliases` are former flags, which --help leaves out; so it does
    those `hidden`, which another flag, or a file, can say too. What is typed goes before what a --config says.

    Flags and configuration keys that are unknown, ill-typed or out of range raise BadInput. --help and --print_config
    exit at once, before anything heavy is imported.
    """
    import jsonargparse

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(
        prog=program,
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_with_ranges(jsonargparse.DefaultHelpFormatter),
    )
    parser.add_argument("--config", action="config", help="a YAML file of these flags, as --print_config prints it")
    if positional:
        _add_positional(parser, config_class, positional)
    parser.add_class_arguments(config_class, as_group=False, skip={positional} - {""})
    for action in parser._actions:
        if action.dest in hidden:
            action.help = argparse.SUPPRESS
    try:
        given = sys.argv[1:] if arguments is None else arguments
        values = parser.parse_args(_words(given, config_class, aliases, hidden))
        plain = {field.name: _plain(values[field.name]) for field in _fields(config_class)}
        check_fields(config_class, plain, "--")
    except (BadInput, jsonargparse.ArgumentError) as error:
        problem = in_our_words(str(error), config_class, positional=positional)
        raise BadInput(f"{problem}; python -m {program} --help lists the flags") from None
    return config_class(**plain)


def _with_ranges(formatter: Any) -> Any:
    """jsonargparse's `formatter` of --help, which shows a flag's range in the place of its type."""

    def expand_help(self: Any, action: Any) -> str:
        return re.sub(r"\(type: [^<]*<(.+?)>\]*", r"(\1", formatter._expand_help(self, action))

    return type("HelpWithRanges", (formatter,), {"_expand_help": expand_help})


def _words(
    arguments: Iterable[str], config_class: type, aliases: Sequence[Aliases], hidden: Mapping[str, Hidden | None]
) -> list[str]:
    """`arguments` with each flag and its value in one word, and former flags folded into the flags of now.

    A configuration file comes first, in its flag's word with its contents. A flag of true or false may stand alone.
    """
    import yaml

    former = [name for group in aliases for name in group.names]
    names = [*(field.name for field in _fields(config_class)), *former]
    switches = [field.name for field in _fields(config_class) if field.type in (bool, bool | None)]
    switches += [name for group in aliases for name in group.switches]
    lone = [field.name for field in _fields(config_class) if field.type == Options]
    words, contents, typed = list[str](), list[dict[str, Any]](), dict[str, str]()
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--")
        if name == flag or name not in (*names, "config"):
            words.append(word)
            continue
        alone = not rest or rest[0].startswith("--")
        stands = alone if name in lone else name in switches and (not rest or rest[0] not in ("true", "false", "null"))
        if stands and not equals:
            value = "true"
        elif not equals and alone:
            words.append(word)  # argparse says that its value is missing
            continue
        elif not equals:
            value = rest.popleft()
        if name in former:
            typed[name] = value
        elif name == "config":
            contents.append(_read_config_file(value, names))
        else:
            words.append(f"{flag}={value}")
    _settle(words, contents, {name: other for name, other in hidden.items() if other is not None})
    plain = [{name: value for name, value in content.items() if name not in former} for content in contents]
    words = [*(f"--config={yaml.safe_dump(content)}" for content in plain), *words]
    for group in aliases:
        words = _folded(words, group, contents, {name: typed[name] for name in group.names if name in typed})
    return words


def _settle(words: Sequence[str], contents: Sequence[dict[str, Any]], hidden: Mapping[str, Hidden]) -> None:
    """Of what a hidden flag and an option of another both say, `contents` keep nothing that `words` say otherwise."""
    typed = {
        flag.removeprefix("--"): value for flag, equals, value in (word.partition("=") for word in words) if equals
    }
    for name, (flag, split) in hidden.items():
        said = split(typed[flag])[1] if flag in typed else None
        if said is not None and typed.get(name, said) != said:
            raise BadInput(f"--{name} {typed[name]}: --{flag} {typed[flag]} says another; give one of the two")
        for content in contents:
            if said is not None:
                content.pop(name, None)
            elif name in typed and isinstance(content.get(flag), str):
                content[flag] = split(content[flag])[0]


def _folded(words: list[str], group: Aliases, contents: list[dict[str, Any]], typed: dict[str, str]) -> list[str]:
    """`words` with the former flags of `group`, `typed` or in the `contents` of saved configurations, in its flag."""
    now, saved, own = f"--{group.flag}", dict[str, str](), dict[str, str]()
    for content in contents:
        if content.get(group.flag) is None or group.joins:  # else what stands beside it was folded into it already
            given = [old for old in group.names if content.get(old) is not None and not group.repeats(content, old)]
            saved |= {old: str(content[old]) for old in given}
        if content.get(group.flag) is not None:
            own = {group.flag: str(content[group.flag])}
    if given_now := [word for word in words if word.startswith(f"{now}=")]:
        saved, own = {}, {group.flag: given_now[-1].partition("=")[2]}
    if not saved | typed:
        return words
    if given_now and not group.joins:
        name, value = next(iter(typed.items()))
        raise BadInput(f"--{name} {value}: is an option of {now} now; give {now} alone")
    kept = [word for word in words if word not in given_now]
    return [*kept, f"{now}={group.fold(saved | typed | (own if group.joins else {}))}"]


def _fields(config_class: type) -> tuple["dataclasses.Field[Any]", ...]:
    return dataclasses.fields(config_class)


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


def _read_config_file(path: str, names: list[str]) -> dict[str, Any]:
    """Values of some of the flags `names`, from the file at `path`; BadInput says what is wrong with it."""
    try:
        content = read_yaml(Path(path).read_bytes())
    except OSError as error:
        raise BadInput(f"--config {path}: {error.strerror}; give a YAML file, as --print_config prints it") from None
    except ValueError as error:
        raise BadInput(f"--config {path}: is not YAML ({error})") from None
    if not isinstance(content, dict):
        raise BadInput(f"--config {path}: holds no flags; give a YAML file, as --print_config prints it")
    for name in (name for name in content if name not in names):
        raise BadInput(f"--config {path}: no such flag: {name}{near(str(name), names)}")
    return content


def in_our_words(message: str, config_class: type, where: str = "", positional: str = "") -> str:
    """jsonargparse's message in ours: the flag (in a file `where`: the field), its value, and what was expected."""
    dashes = "" if where else "--"
    if ill_typed := re.match(r'Parser key "(\w+)":.*(?:Given|Got) value: (.*)', message, re.DOTALL):
        hint = typing.get_type_hints(config_class, include_extras=True)[ill_typed[1]]
        return f"{where}{dashes}{ill_typed[1]} {ill_typed[2].strip()}: expected {expected(hint)}"
    if missing := re.match(r"the following arguments are required: (.+)", message):
        names = ["PATH" if name == positional else dashes + name for name in missing[1].split(", ")]
        return f"{where}{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
    if unknown := re.match(r"unrecognized arguments: (\S+)", message):
        word = unknown[1].partition("=")[0]
        hint = near(word, [f"--{field.name}" for field in _fields(config_class)])
        return f"{word}: no such flag{hint}" if word.startswith("-") else f"{word!r} belongs to no flag"
    return message.strip().rstrip(".")


def near(name: str, known: Iterable[str]) -> str:
    """A hint at the name in `known` that `name` may have been meant to be; empty where none is like it."""
    import difflib

    return "".join(f" (did you mean {near}?)" for near in difflib.get_close_matches(name, known, 1))


def as_yaml(values: dict[str, Any]) -> bytes:
    """A configuration as the YAML that --config reads back."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False).encode()
