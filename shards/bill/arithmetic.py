"""Arithmetic: from what was probed to hours, dollars, what holds a run, and when a cache has paid for itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One kind of work of a run."""

    name: str
    seconds: float
    """All of it, with its lane to itself."""
    lane: str
    """What it occupies: cores, device or disk. Stages of one lane take turns, lanes work at the same time."""


@dataclass(frozen=True)
class Bill:
    """What a run takes."""

    stages: Sequence[Stage]
    once: float = 0.0
    """Seconds before the stages, which nothing overlaps: opening, loading, calibration."""
    num_bytes: int | float = 0
    num_files: int | float = 0

    @property
    def lanes(self) -> dict[str, float]:
        """The seconds of each lane."""
        lanes: dict[str, float] = {}
        for stage in self.stages:
            lanes[stage.lane] = lanes.get(stage.lane, 0.0) + stage.seconds
        return lanes

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return self.once + max(self.lanes.values(), default=0.0)

    @property
    def hours(self) -> float:
        """The same in hours."""
        return self.seconds / 3600

    @property
    def bottleneck(self) -> str:
        """The longest stage of the longest lane, or what comes before the stages where that takes longer."""
        lanes = self.lanes
        if not lanes or self.once >= max(lanes.values()):
            return "the start"
        busiest = max(lanes, key=lambda lane: lanes[lane])
        return max((stage for stage in self.stages if stage.lane == busiest), key=lambda stage: stage.seconds).name


@dataclass(frozen=True)
class BreakEven:
    """A cache against the teacher in the loop."""

    extraction: float
    """Seconds that the cache takes, once."""
    live_epoch: float
    """Seconds of an epoch with the teacher in the loop."""
    cached_epoch: float
    """Seconds of an epoch from the cache."""

    @property
    def epochs(self) -> float | None:
        """After how many epochs, of all students together, the cache has paid for itself; None: never."""
        saved = self.live_epoch - self.cached_epoch
        return self.extraction / saved if saved > 0 else None

    def students(self, epochs_each: int | float) -> int | None:
        """After how many students of so many epochs; None: never."""
        return None if self.epochs is None else max(1, math.ceil(self.epochs / epochs_each))

    def __str__(self) -> str:
        epochs = f"an epoch takes {human_seconds(self.live_epoch)} with the teacher in the loop and "
        epochs += f"{human_seconds(self.cached_epoch)} from the cache"
        if self.epochs is None:
            return f"the cache never beats the teacher in the loop: {epochs}; keep the teacher in the loop"
        after = f"after {self.epochs:,.2g} epochs, of one student or of several together"
        return f"the cache beats the teacher in the loop {after}: {epochs}"


def human_seconds(seconds: int | float) -> str:
    """90 -> '90 s', 7,200 -> '2 h'."""
    unit, size = next((pair for pair in (("h", 3600), ("min", 60)) if seconds >= 2 * pair[1]), ("s", 1))
    return f"{seconds / size:,.3g} {unit}"
