"""Ranges: which values a flag or a setting may have; the range stands with the field, as its type.

A field is declared as `epochs: Count | None = None`; command line, --config file, recipe and preset refuse a value
outside its range in the same words, and --help shows them.
"""

import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from shards.errors import BadInput


class Range:
    """Which values a type's field may have, and the words for them in errors and --help."""

    def __init__(self, expected: str, holds: Callable[[Any], bool]) -> None:
        self.expected, self.holds = expected, holds

    def __repr__(self) -> str:
        return f"<{self.expected}>"

    def check(self, label: str, value: Any) -> None:
        """Raises BadInput, which begins with `label`, for a value outside."""
        if not self.holds(value):
            raise BadInput(f"{label} {value!s:.80}: expected {self.expected}")


def whole(least: int, most: int | None = None) -> Range:
    """Whole numbers from `least` on, up to `most` where it is given."""
    words = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Range(
        f"a whole number {words}",
        lambda value: type(value) is int and least <= value and (most is None or value <= most),
    )


def number(words: str, holds: Callable[[float], bool]) -> Range:
    """Finite numbers for which `holds`."""
    return Range(f"a number {words}", lambda x: type(x) in (int, float) and math.isfinite(x) and holds(x))


COUNT, POSITIVE = whole(1), number("above 0", lambda x: x > 0)
SHARE_BELOW_ONE = number("of at least 0, below 1", lambda x: 0 <= x < 1)
SHARE = number("from 0 to 1", lambda x: 0 <= x <= 1)
"""For values that are no fields: the arguments of an objective or of a student."""

Count = Annotated[int, COUNT]
CountFromZero = Annotated[int, whole(0)]
Seed = Annotated[int, whole(0, 2**32 - 1)]
Positive = Annotated[float, POSITIVE]
NotNegative = Annotated[float, number("of at least 0", lambda x: x >= 0)]
Share = Annotated[float, SHARE]
ShareBelowOne = Annotated[float, SHARE_BELOW_ONE]
ShareAboveZero = Annotated[float, number("above 0, at most 1", lambda x: 0 < x <= 1)]
Betas = Annotated[
    tuple[float, float], Range("two numbers of at least 0, below 1", lambda pair: all(0 <= x < 1 for x in pair))
]
Span = Annotated[
    tuple[float, float],
    Range("two shares above 0, at most 1, the smaller one first", lambda pair: 0 < pair[0] <= pair[1] <= 1),
]
Options = Annotated[str, Range("KEY=VALUE options, or nothing", lambda text: text == "true" or "=" in text)] | None
"""Of a flag that may stand alone, which is `true` then."""
Precision = Literal["float32", "bfloat16", "float16"]
"""Of a network's arithmetic, by torch's names."""

_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "names and their values"}


def check_fields(kind: type, values: Mapping[str, Any], prefix: str) -> None:
    """Each of the `values` of the fields of `kind` lies in the range of its field's type.

    BadInput, which begins with `prefix` and the field's name, for one that does not.
    """
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        value = values[name]
        options = alternatives(hint)
        if value is None:
            if types.NoneType not in options:
                raise BadInput(f"{prefix}{name} null: expected {expected(hint)}")
            continue
        for option in options:
            for limit in getattr(option, "__metadata__", ()):
                limit.check(f"{prefix}{name}", value)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types that a field's type joins by |; one alone is itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def expected(hint: Any) -> str:
    """What a field of that type may hold, in words."""
    return " or ".join(_words(option) for option in alternatives(hint) if option is not types.NoneType)


def _words(hint: Any) -> str:
    if limits := getattr(hint, "__metadata__", ()):
        return str(limits[0].expected)
    origin = typing.get_origin(hint) or hint
    if origin is Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if origin is tuple:
        return f"{len(typing.get_args(hint))} values"
    return _TYPES.get(origin, str(hint))
