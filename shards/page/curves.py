"""Curves: what runs logged over their steps (losses, agreement), thinned for a page, as paths that overlay."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from shards.command.progress import counted
from shards.errors import BadInput, one_line

Points = tuple[np.ndarray, np.ndarray]
"""Steps, ascending, and a value at each; both float64 (points,)."""
CHARTS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_agreement": "agreement: share of validation samples given the teacher's class",
    "val_cosine": "cosine to the teacher's features on validation",
}
"""The columns of metrics.csv that are drawn, and what the page calls them."""
MOST_POINTS, MOST_CURVES, MOST_LOG_BYTES = 160, 40, 256 << 20
_LARGEST = 1e15
"""A step or loss beyond is not drawn: the axes could not show others beside it."""
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 300, 88, 28
"""Of a drawing, in its own units, and its margins for the axes' numbers."""


@dataclass(frozen=True)
class Chart:
    """One drawing: a path for each run, and the axes' ticks, in units of the drawing."""

    title: str
    paths: list[tuple[int, str]]
    """(number of the run, SVG path data)."""
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    logarithmic: bool


@dataclass(frozen=True)
class Curves:
    """What a run logged, by column, thinned; and what of its logs the curves lack."""

    of: dict[str, Points]
    damage: str = ""
    """In one line what cannot be read."""
    missing: str = ""
    """In one line what was never written whole, and measured again by no later attempt."""


def read_curves(logs: Path, num_steps: int | float | None = None) -> Curves:
    """A later attempt takes the place of an earlier one from its first step on; a run without logs has no curves.

    An attempt's last line may be cut off, as a kill leaves it: a later one measured most such steps again. What none
    did is missing; after the last step that is there only where `num_steps` tells how many a finished run took.
    """
    parts: dict[str, list[Points]] = {name: [] for name in CHARTS}
    damaged, cut = list[str](), list[str]()
    attempts = sorted(logs.glob("version_*/metrics.csv"), key=lambda path: (len(path.parent.name), path.parent.name))
    for path in attempts:
        try:
            if path.stat().st_size > MOST_LOG_BYTES:
                raise BadInput(f"larger than {MOST_LOG_BYTES} bytes")
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]  # a number that was cut off is another number
            if not content or whole != content:
                cut.append(f"{path}: its last line is cut off")
            table, num_wrong = _parsed(whole) if whole else ({}, 0)
        except (BadInput, OSError) as error:
            damaged.append(f"{path}: cannot be read ({one_line(error)})")
            continue
        if num_wrong:
            damaged.append(
                f"{path}: {counted(num_wrong, 'line')} cut off or with other columns, left out of the curves"
            )
        for name, (steps, values) in _columns(table):
            parts[name] = [(s[s < steps[0]], v[s < steps[0]]) for s, v in parts[name]] + [(steps, values)]
    joined = {name: (np.concatenate(steps), np.concatenate(values)) for name, (steps, values) in _by_axis(parts)}
    curves = {name: _thinned(points) for name, points in joined.items() if len(points[0])}
    lost = _lost({name: points[0] for name, points in joined.items() if len(points[0])}, num_steps) if cut else ""
    if cut and not curves and num_steps:
        damaged += cut
    return Curves(curves, "; ".join(damaged), f"{lost} ({'; '.join(cut)})" if lost else "")


def _lost(steps_of: dict[str, np.ndarray], num_steps: int | float | None) -> str:
    """In one line the columns that lack values, and between which steps: of those logged, farther apart than others."""
    gaps: dict[tuple[float, float], list[str]] = {}
    for name, steps in steps_of.items():
        logged = np.unique(np.concatenate([[-1.0], steps])).tolist()
        apart = float(np.quantile(np.diff(logged), 0.5, method="lower"))
        found = [(first, last) for first, last in pairwise(logged) if last - first > 1.5 * apart]
        if num_steps is not None and num_steps - 1 - logged[-1] >= apart:
            found.append((logged[-1], num_steps - 1))
        for gap in found:
            gaps.setdefault(gap, []).append(name)
    between = (f"no {', '.join(names)} between steps {max(0, a):,.0f} and {b:,.0f}" for (a, b), names in gaps.items())
    return "; ".join(between)


def _by_axis(parts: dict[str, list[Points]]) -> Iterator[tuple[str, tuple[list[np.ndarray], list[np.ndarray]]]]:
    for name, points in parts.items():
        if points:
            yield name, ([steps for steps, _ in points], [values for _, values in points])


def _parsed(content: bytes) -> tuple[dict[str, np.ndarray], int]:
    """The columns of a log (float64), NaN where a line has no number, and how many lines do not have its columns.

    BadInput where it is no log, or holds text in a number's place.
    """
    import pyarrow as pa
    from pyarrow import csv

    names, wrong = ("step", *CHARTS), list[int]()

    def skip(row: csv.InvalidRow) -> str:
        wrong.append(row.actual_columns)
        return "skip"

    parsing = csv.ParseOptions(invalid_row_handler=skip)
    converting = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.float64()), include_columns=names, include_missing_columns=True
    )
    try:
        columns = content.partition(b"\n")[0].decode().rstrip("\r").split(",")
        if "step" not in columns or len(set(columns)) < len(columns):
            raise BadInput("its first line does not name the columns of a log")
        # a thread of the library's that holds Python's objects as Python ends may abort it (apache/arrow#34314, #50482)
        alone = csv.ReadOptions(use_threads=False)
        table = csv.read_csv(pa.BufferReader(content), alone, parsing, converting)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise BadInput(one_line(error)) from None
    return {name: table[name].to_numpy() for name in names}, len(wrong)


def _columns(table: dict[str, np.ndarray]) -> Iterator[tuple[str, Points]]:
    """The columns of one attempt's log, where they have finite numbers."""
    for name in CHARTS if table else ():
        steps, values = table["step"], table[name]
        kept = (np.abs(values) < _LARGEST) & (steps >= 0) & (steps < _LARGEST)  # neither NaN nor infinity
        if kept.any():
            order = np.argsort(steps[kept], kind="stable")
            yield name, (steps[kept][order], values[kept][order])


def _thinned(points: Points) -> Points:
    """At most MOST_POINTS: each the mean of as many neighbours."""
    steps, values = points
    if len(steps) <= MOST_POINTS:
        return points
    parts = [np.array_split(axis, MOST_POINTS) for axis in (steps, values)]
    first, second = (np.array([part.mean() for part in axis]) for axis in parts)
    return first, second


def charts_of(curves: list[dict[str, Points]]) -> list[Chart]:
    """A drawing for each column that any of the runs' `curves` has; at most MOST_CURVES runs are drawn."""
    charts = []
    for name, title in CHARTS.items():
        drawn = [(run, of_run[name]) for run, of_run in enumerate(curves) if name in of_run][:MOST_CURVES]
        if drawn:
            charts.append(_chart(title, drawn))
    return charts


def _chart(title: str, drawn: list[tuple[int, Points]]) -> Chart:
    values = np.concatenate([points[1] for _, points in drawn])
    last = float(max(points[0][-1] for _, points in drawn)) or 1.0
    logarithmic = bool(values.min() > 0 and values.max() > 10 * values.min())
    scaled = np.log10 if logarithmic else np.asarray
    low, high = float(scaled(values.min())), float(scaled(values.max()))
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)

    def height(value: float) -> float:
        return round((HEIGHT - BOTTOM) - (float(scaled(value)) - low) / (high - low) * (HEIGHT - BOTTOM - 12), 1)

    def across(step: float) -> float:
        return round(LEFT + step / last * (WIDTH - LEFT - 14), 1)

    paths = []
    for run, (steps, losses) in drawn:
        places = [f"{across(step):g} {height(loss):g}" for step, loss in zip(steps, losses, strict=True)]
        # one point alone would be a line of no length
        paths.append((run, "M" + "L".join(places) + ("h6" if len(places) == 1 else "")))
    ticks = _decades(10**low, 10**high) if logarithmic else _steps(low, high)
    up = [(height(value), label) for value, label in zip(ticks, _labels(ticks), strict=True)]
    return Chart(title, paths, [(across(step), f"{step:,.0f}") for step in _steps(0.0, last)], up, logarithmic)


def _steps(low: float, high: float) -> list[float]:
    """Round numbers between `low` and `high`: about five."""
    size = 10.0 ** math.floor(math.log10((high - low) / 4))
    size *= next(times for times in (1, 2, 5, 10) if (high - low) / (size * times) <= 6)
    return [number * size for number in range(math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9) + 1)]


def _labels(ticks: list[float]) -> list[str]:
    """With as many digits as tell neighbours apart, where these differ little."""
    least = min((later - tick for tick, later in pairwise(ticks)), default=0.0)
    digits = math.ceil(math.log10(max(map(abs, ticks)) / least)) if least else 0
    return [f"{tick:.{max(3, 1 + digits)}g}" for tick in ticks]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between `low` and `high`; powers alone, or some of them, where these are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = range(first, last + 1, max(1, (last - first) // 6))
    times = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [each * 10.0**power for power in powers for each in times]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
