"""Settings and ranges: a YAML file becomes a dataclass; a field's type says which values it may have."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shards.command import ranges
from shards.command.arguments import as_yaml, parse
from shards.command.ranges import Betas, Count, CountFromZero, NotNegative, Positive, Precision, Range, Seed, Share
from shards.command.settings import as_values, given_flags, parse_settings, read_named_yaml
from shards.errors import BadInput, UnknownName


@dataclass(frozen=True, kw_only=True)
class Meal:
    """Settings."""

    name: str
    guests: Count
    price: Positive | None = None
    betas: Betas = (0.5, 0.75)
    precision: Precision = "float32"
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MealFlags:
    """Flags of which two have a setting's name."""

    guests: Count | None = None
    """How many."""
    price: Positive | None = None
    """How much."""
    table: CountFromZero = 0
    """Which table."""


def meal(**changes: Any) -> Meal:
    return parse_settings(Meal, {"name": "dinner", "guests": 2} | changes, "--meal dinner")


def test_a_file_is_found_by_name_or_path_and_reads_back(tmp_path: Path) -> None:
    dinner = meal(price=2, betas=[0, 0.5], notes={"salt": "none"})
    assert dinner == Meal(name="dinner", guests=2, price=2.0, betas=(0.0, 0.5), notes={"salt": "none"})
    (tmp_path / "dinner.yaml").write_bytes(as_yaml(as_values(dinner)))
    for name in ("dinner", str(tmp_path / "dinner.yaml")):
        values, path = read_named_yaml("meal", name, tmp_path)
        assert path == tmp_path / "dinner.yaml" and parse_settings(Meal, values, "--meal") == dinner
    with pytest.raises(UnknownName, match="unknown meal 'diner': did you mean dinner"):
        read_named_yaml("meal", "diner", tmp_path)
    with pytest.raises(BadInput, match=r"--meal no.yaml: no such file; known meals are dinner$"):
        read_named_yaml("meal", "no.yaml", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gests": 3}, "no such field: gests (did you mean guests?); known are name, guests, price, betas, "),
        ({"guests": None}, "guests is missing"),
        ({"guests": None, "name": None}, "name and guests are missing"),
        ({"guests": 0}, "guests 0: expected a whole number of at least 1"),
        ({"guests": "two"}, "guests two: expected a whole number of at least 1"),
        ({"guests": True}, "guests True: expected a whole number of at least 1"),
        ({"price": -1}, "price -1.0: expected a number above 0"),
        ({"betas": None}, "betas null: expected two numbers of at least 0, below 1"),
        ({"precision": "float8"}, "precision float8: expected float32 or bfloat16 or float16"),
        ({"notes": 3}, "notes 3: expected names and their values"),
    ],
    ids=str,
)
def test_what_settings_cannot_hold_is_said_on_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        meal(**changes)
    assert str(refused.value).startswith(f"--meal dinner: {message}") and "\n" not in str(refused.value)


def test_flags_that_were_given_take_the_place_of_fields() -> None:
    flags = parse(MealFlags, "meal", ["--guests", "5", "--table", "0"], "")
    assert given_flags(Meal, flags) == {"guests": 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guests", "0"], "--guests 0: expected a whole number of at least 1"),
        (["--price", "inf"], "--price inf: expected a number above 0"),
        (["--table", "-1"], "--table -1: expected a whole number of at least 0"),
        (["--config", "{table: null}"], "--table null: expected a whole number of at least 0"),
    ],
)
def test_a_flags_range_stands_with_its_field(arguments: list[str], message: str, tmp_path: Path) -> None:
    if arguments[0] == "--config":
        (tmp_path / "flags.yaml").write_text(arguments[1])
        arguments = ["--config", str(tmp_path / "flags.yaml")]
    with pytest.raises(BadInput) as refused:
        parse(MealFlags, "meal", arguments, "")
    assert str(refused.value) == f"{message}; python -m meal --help lists the flags"


def test_help_shows_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(MealFlags, "meal", ["--help"], "")
    shown = " ".join(capsys.readouterr().out.split())
    assert "How many. (a whole number of at least 1, default: null)" in shown
    assert "Which table. (a whole number of at least 0, default: 0)" in shown


INSIDE_OUTSIDE: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "Count": (Count, [1, 2**40], [0, -1, 1.0, True, "1", math.nan]),
    "CountFromZero": (CountFromZero, [0, 1], [-1, 0.5]),
    "Seed": (Seed, [0, 2**32 - 1], [-1, 2**32]),
    "Positive": (Positive, [1e-30, 3], [0.0, -1.0, math.inf, math.nan, True, "1"]),
    "NotNegative": (NotNegative, [0.0, 5], [-1e-9, math.inf, math.nan]),
    "Share": (Share, [0.0, 0.5, 1.0], [-0.1, 1.1, math.nan]),
    "ShareBelowOne": (ranges.ShareBelowOne, [0.0, 0.99], [1.0, -0.1, math.nan]),
    "ShareAboveZero": (ranges.ShareAboveZero, [0.01, 1.0], [0.0, 1.01]),
    "Betas": (Betas, [(0.0, 0.999)], [(0.9, 1.0), (-0.1, 0.9), (math.nan, 0.9)]),
    "Span": (ranges.Span, [(0.08, 1.0), (0.5, 0.5)], [(0.5, 0.1), (0.0, 1.0), (0.5, 1.5)]),
}


@pytest.mark.parametrize("name", INSIDE_OUTSIDE)
def test_the_ends_of_every_range(name: str) -> None:
    kind, inside, outside = INSIDE_OUTSIDE[name]
    (limit,) = kind.__metadata__
    assert isinstance(limit, Range)
    assert all(map(limit.holds, inside)) and not any(map(limit.holds, outside))
    with pytest.raises(BadInput, match=f"^--x .*: expected {limit.expected}$"):
        limit.check("--x", outside[0])
