"""Fronts: which ways to store something no other way betters at as few bytes, and a picture of them all."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.study import drawing

SIZE, WAY = "bytes_a_token", "codec"
MARKERS, COLOURS = ("o", "s", "^"), 10
TICKS = [2**power for power in range(3, 12)]


@dataclass(frozen=True)
class Measure:
    """A column of a study's rows."""

    name: str
    label: str
    factor: float
    """What it is shown in: 100 for per cent."""
    digits: int
    least: bool = False
    """Whether less is better."""

    def mean(self, rows: Sequence[Mapping[str, Any]], way: str) -> float:
        """Over the seeds, as it is shown."""
        return self.factor * statistics.mean(row[self.name] for row in rows if row[WAY] == way)


def front(rows: Sequence[Mapping[str, Any]], measure: Measure) -> list[str]:
    """The ways whose mean is better than that of every other of as few bytes, the fewest bytes first."""
    sign = -1 if measure.least else 1
    sizes = {row[WAY]: row[SIZE] for row in rows}
    ordered = sorted(sizes, key=lambda way: (sizes[way], -sign * measure.mean(rows, way)))
    kept: list[str] = []
    for way in ordered:
        if not kept or sign * measure.mean(rows, way) > sign * measure.mean(rows, kept[-1]):
            kept.append(way)
    return kept


def plot_fronts(
    rows: Sequence[Mapping[str, Any]], groups: Mapping[str, str], measures: Sequence[Measure], label: str, path: Path
) -> None:
    """Each measure over bytes: a mark a way, the range over seeds as a bar, the front as a line.

    `groups` says of each way which of three marks it has.
    """
    marks = dict(zip(dict.fromkeys(groups.values()), MARKERS, strict=False))
    sizes = {row[WAY]: row[SIZE] for row in rows}
    with drawing(path, len(measures)) as axes:
        for axis, measure in zip(axes, measures, strict=True):
            on_front = front(rows, measure)
            heights = [measure.mean(rows, way) for way in on_front]
            axis.plot([sizes[way] for way in on_front], heights, color="0.6", linewidth=1, zorder=1)
            for number, (way, group) in enumerate(groups.items()):
                values = [measure.factor * row[measure.name] for row in rows if row[WAY] == way]
                middle = statistics.mean(values)
                bar = [[middle - min(values)], [max(values) - middle]]
                colour = f"C{number % COLOURS}"
                face = colour if number < COLOURS else "none"
                style = {"fmt": marks[group], "color": colour, "markerfacecolor": face, "capsize": 2}
                axis.errorbar(sizes[way], middle, bar, label=way, **style)
            axis.set(xscale="log", xlabel=label, ylabel=measure.label)
            axis.set_xticks(TICKS, [str(tick) for tick in TICKS], minor=False)
            axis.minorticks_off()
        axes[0].legend(fontsize=6)
