"""Sizes: bytes as people write them, in flags: 50GB, 1.5 TiB, 500M; and seconds, in environment variables."""

import math
import os
import re

from shards.errors import BadInput

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?")


def parse_bytes(given: str, text: str, example: str) -> int:
    """The bytes that `text` says; BadInput, which begins with what was `given`, where it is no size above 0."""
    match = _SIZE.fullmatch(text.strip().upper())
    size = float(match[1]) * _UNITS.get(match[2], math.nan) if match else math.nan
    if not size >= 1:
        raise BadInput(f"{given}: expected a size above 0, as {example}")
    return int(size)


def seconds_in(variable: str, default: float) -> float:
    """The seconds that the environment variable says, or `default`; BadInput where they are no number above 0."""
    text = os.environ.get(variable, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadInput(f"{variable}={text}: expected a number of seconds above 0, as {default:g}; or unset it")
    return seconds
