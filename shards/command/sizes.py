"""Sizes: bytes as people write them, in flags: 50GB, 1.5 TiB, 500M."""

import math
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
