"""Progress: a bar with rate and time left on a terminal, one line a minute elsewhere."""

import sys
import time
from typing import Any

LINE_EVERY_S = 60.0


class Progress:
    """Counts `unit`s up to `total` while the block runs; `advance` may be called from any thread."""

    def __init__(self, label: str, total: int, unit: str = "samples") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        self._start = self._last = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            rate = TextColumn("{task.fields[rate]}")
            label = TextColumn("{task.description}", markup=False)  # a name may hold what rich takes for its own
            columns = (label, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.label, total=self.total, rate="")
            self._bar.start()
        return self

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        self.done += count
        now = time.monotonic()
        rate = self.done / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{rate:,.0f} {self.unit}/s")
        elif now - self._last >= LINE_EVERY_S:
            self._last = now
            left = (self.total - self.done) / max(rate, 1e-9)
            counts = f"{self.done:,} of {self.total:,} {self.unit}"
            print(f"{self.label}: {counts}, {rate:,.1f}/s, {left / 60:,.0f} min left", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def counted(count: int, noun: str) -> str:
    """1 -> '1 sample', 1797 -> '1,797 samples'."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def human_bytes(count: int | float) -> str:
    """1,437 -> '1.4 kB': decimal units, as disks are sold."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
