"""Measure: contenders timed in turn within one run; a figure is the median of the ratios of neighbours in time.

Machines are shared and noisy, so a time means little and a ratio of two times taken one after the other means more.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import cpu_name, device_name, versions
from distill.folder import git_revision
from shards.command.devices import one_device, share_of_cores
from shards.command.run import run_command
from shards.commit import write_atomically

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, and their range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])

    def __str__(self) -> str:
        digits = 3 if self.most < 100 else 0
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


@dataclass(frozen=True)
class Figure:
    """One ratio, what it compares, what bounds it, and what it should reach at least (None: reported only)."""

    compared: str
    limit: str
    ratio: Spread
    goal: float | None = None

    def reached(self, quick: bool) -> bool | None:
        """Whether the median is at the goal; None where there is no goal, or sizes are too small to tell."""
        return None if self.goal is None or quick else self.ratio.median >= self.goal


@dataclass
class Report:
    """What one benchmark found: rates of the contenders, in `unit`/s, and figures made of them."""

    question: str
    unit: str
    settings: dict[str, Any]
    rates: dict[str, Spread] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def add_rates(self, seconds: Mapping[str, list[float]], prefix: str = "") -> None:
        """The contenders' seconds a unit, as rates."""
        self.rates |= {prefix + name: Spread.of(1 / value for value in values) for name, values in seconds.items()}


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each contender's seconds a unit of work in every round, after a first round that is not counted.

    Every second round runs backwards, so that a machine that speeds up or slows down favours nobody.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            taken = contenders[name]()
            if number:
                seconds[name].append(taken)
    return seconds


class Clock:
    """What `now` counts: the seconds that pass, or with `cpu` those that this process's threads compute together."""

    cpu = False

    def now(self) -> float:
        """Seconds since some moment."""
        return time.process_time() if self.cpu else time.perf_counter()


CLOCK = Clock()
"""Set once, by --cpu_time."""


def per_unit(work: Callable[[], Any], units: int, device: torch.device | None = None) -> Callable[[], float]:
    """A contender: `work` does `units` units (samples, steps), whatever the device still has to do included."""

    def timed() -> float:
        synchronise(device)
        start = CLOCK.now()
        work()
        synchronise(device)
        return (CLOCK.now() - start) / units

    return timed


def synchronise(device: torch.device | None) -> None:
    """The device has done all that it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def share(limit: list[float], contender: list[float]) -> Spread:
    """The contender's rate as a share of the limit's, round by round."""
    return Spread.of(one / other for one, other in zip(limit, contender, strict=True))


def slowest(seconds: Mapping[str, list[float]]) -> str:
    """The contender with the lowest rate."""
    return max(seconds, key=lambda name: statistics.median(seconds[name]))


def fastest(seconds: Mapping[str, list[float]]) -> str:
    """The contender with the highest rate."""
    return min(seconds, key=lambda name: statistics.median(seconds[name]))


def the_device() -> torch.device:
    """The GPU where there is one."""
    return one_device("device")


Sizes = Mapping[str, Mapping[str, Any]]
"""What to measure with on a "cpu", on "cuda" and when it is to be "quick"."""


def settings_here(sizes: Sizes, options: argparse.Namespace) -> dict[str, Any]:
    """The sizes to measure with here, to which what else was chosen is added."""
    chosen = sizes["quick" if options.quick else the_device().type]
    return dict(chosen) | {"threads": share_of_cores(), "images": getattr(options, "images", None)}


def run(
    measure: Callable[[argparse.Namespace, Path], Report],
    name: str,
    with_images: bool = False,
    with_text: bool = False,
    cases: Sequence[str] = ("",),
) -> None:
    """The command `python -m benchmarks.NAME`: parse, measure in a temporary folder, print, and write the JSON.

    Of several `cases` each is a report of its own, and --case picks one.
    """

    def command(arguments: list[str] | None) -> None:
        parser = argparse.ArgumentParser(f"benchmarks.{name}")
        parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
        parser.add_argument("--rounds", type=int, help="times that the contenders take turns (default: 5; quick: 1)")
        parser.add_argument("--out", type=Path, help="folder for the JSON (default: benchmarks/results; quick: none)")
        shared = "count this process's CPU time and not what passes: where other work has the cores too"
        parser.add_argument("--cpu_time", action="store_true", help=shared)
        if with_images:
            parser.add_argument("--images", help="a pattern of JPEG files, '/photos/*.jpg' (default: synthetic ones)")
        if with_text:
            parser.add_argument("--text", help="a text file, repeated as often as needed (default: synthetic words)")
        if len(cases) > 1:
            parser.add_argument("--case", choices=cases, help="measure this pair alone (default: one after the other)")
        options = parser.parse_args(arguments)
        CLOCK.cpu = options.cpu_time
        options.rounds = options.rounds or (1 if options.quick else 5)
        for case in [options.case] if getattr(options, "case", None) else cases:
            options.case = case
            _run_case(measure, options, f"{name}-{case}".rstrip("-"))

    run_command(command, f"benchmarks.{name}")


def _run_case(measure: Callable[[argparse.Namespace, Path], Report], options: argparse.Namespace, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        report = measure(options, Path(folder))
    show(name, report, options.quick)
    out = options.out or (None if options.quick else RESULTS)
    if out is not None:
        path = out / f"{name}-{re.sub(r'[^a-z0-9]+', '-', device_name().lower()).strip('-')}.json"
        write_atomically(path, (json.dumps(document(name, report, options), indent=1) + "\n").encode())
        print(f"{name}: {path}")


def show(name: str, report: Report, quick: bool) -> None:
    """Two tables: the contenders' rates and the figures."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    rates = Table("contender", f"{report.unit}/s: median (range)", box=SIMPLE, title=f"{name}: {report.question}")
    for contender, rate in report.rates.items():
        rates.add_row(contender, str(rate))
    # what a figure compares is one line for whoever searches a log; its limit may wrap
    compared = Column("of", no_wrap=not console.is_terminal)
    figures = Table("ratio: median (range)", compared, "limit", "goal", box=SIMPLE)
    for figure in report.figures:
        verdict = {None: "", True: "reached", False: "missed"}[figure.reached(quick)]
        goal = "" if figure.goal is None else f"{figure.goal:.2f} {verdict}"
        figures.add_row(str(figure.ratio), figure.compared, figure.limit, goal)
    console.print(rates, figures)


def document(name: str, report: Report, options: argparse.Namespace) -> dict[str, Any]:
    """All that a reader of the numbers must know."""
    return {
        "benchmark": name,
        "question": report.question,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(),
        "cpu": cpu_name(),
        "num_cores": share_of_cores(),
        "num_threads": torch.get_num_threads(),
        "versions": versions(),
        "revision": git_revision(),
        "quick": options.quick,
        "rounds": options.rounds,
        "seconds": "of this process's CPU time" if options.cpu_time else "that passed",
        "settings": report.settings,
        "unit": f"{report.unit}/s",
        "rates": {contender: asdict(rate) for contender, rate in report.rates.items()},
        "figures": [asdict(figure) | {"reached": figure.reached(options.quick)} for figure in report.figures],
    }
