"""Several: the teachers that one command line names, as a command line each."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from extract.config import ExtractConfig, split_key
from shards.codecs import split_codecs
from shards.errors import BadInput

_NAMED = re.compile(r"(?P<name>.+)=(?P<target>[a-z_]+[0-9]*)")
_OPTION = re.compile(r":statistics=[a-z]+$")
"""What the name of one text encoder may end in, which is no target."""
_OF_EACH = ("weights", "weights_key")
"""Flags that take NAME=VALUE,NAME=VALUE where there are several teachers."""
_OWN = ("teacher", "target", "codec", *_OF_EACH)


def each_teacher(config: ExtractConfig) -> list[ExtractConfig]:
    """`config` for each teacher of --teacher NAME=TARGET,NAME=TARGET; one where that names one teacher alone.

    A teacher that stands there twice has both targets. Raises BadInput where flags do not say whose they are.
    """
    spec = config.teacher
    if "=" not in spec or _OPTION.search(spec) or Path(spec.partition(":")[2] or spec).exists():
        return [_with_key(config)]
    matches = [_NAMED.fullmatch(part) for part in spec.split(",")]
    found = [match.group("name", "target") for match in matches if match]
    if len(found) < len(matches):
        wrong = spec.split(",")[matches.index(None)]
        raise BadInput(f"--teacher {spec}: expected NAME=TARGET for each of several teachers, found {wrong!r}")
    if config.target is not None:
        raise BadInput(f"--target {config.target}: --teacher {spec} names a target for each teacher; leave one out")
    codecs = split_codecs(config.codec or "")
    if len(codecs) not in (1, len(found)):
        raise BadInput(f"--codec {config.codec}: give one codec, or one for each target of --teacher {spec}")
    codecs *= len(found) // len(codecs)
    names = list(dict.fromkeys(name for name, _ in found))
    given = {flag: _of_each(flag, getattr(config, flag), names) for flag in _OF_EACH}
    each = []
    for name in names:
        places = [place for place, (other, _) in enumerate(found) if other == name]
        own: dict[str, Any] = {flag: values.get(name) for flag, values in given.items()}
        own["target"] = ",".join(found[place][1] for place in places)
        own["codec"] = ",".join(codecs[place] for place in places) if config.codec else None
        each.append(_with_key(replace(config, teacher=name, **own)))
    return each


def own_flags(config: ExtractConfig) -> dict[str, Any]:
    """The flags in which the command lines of several teachers differ."""
    return {name: getattr(config, name) for name in _OWN}


def _with_key(config: ExtractConfig) -> ExtractConfig:
    """`config` with the set of weights that --weights FILE:key=NAME names as its --weights_key."""
    weights, key = split_key(config.weights or "")
    if key is None:
        return config
    if config.weights_key not in (None, key):
        raise BadInput(f"--weights {config.weights}: another key, {config.weights_key}, is given too; give one")
    return replace(config, weights=weights, weights_key=key)


def _of_each(flag: str, value: str | None, names: list[str]) -> dict[str, str]:
    """The values that `flag` has by the names of teachers."""
    if value is None:
        return {}
    if len(names) == 1:
        return {names[0]: value.removeprefix(f"{names[0]}=")}
    starts = "|".join(re.escape(name) for name in names)
    parts = re.split(f"(?:^|,)({starts})=", value)
    if parts[0] or len(parts) < 3:
        raise BadInput(f"--{flag} {value}: whose? of several teachers give NAME=VALUE, with the NAME of --teacher")
    return dict(zip(parts[1::2], parts[2::2], strict=True))
