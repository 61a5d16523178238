"""Endurance's checks: at the end of a cycle, and of the processes that lived throughout."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caches import contents
from endurance_work import Made, Work, measurements, names, of_run
from turmoil import Turmoil

from shards.stores import open_store

LEFTOVERS = (".partial-*", ".plan-*", ".scratch", ".sharing", ".lock", "filler")
"""What commands leave beside their work while they work, and never after it."""
LIVING = ("reader", "commands")
ENDS_S = 15
"""Within which the processes of a command that was killed have ended."""
FEWEST_ROUNDS = 6
"""Of a process that lives throughout, before what it holds tells anything."""
GROWS_BYTES = 24 << 20
"""What allocators may take more of after an hour than after minutes."""


@dataclass
class Place:
    """Where one cycle works, and how."""

    work: Work
    made: Made
    disk: Path
    url: str | None
    """A bucket's; None for a folder."""
    devices: int
    """Processes that extract, and that train."""

    @property
    def cache(self) -> Path:
        """The folder, or into which the bucket is pulled."""
        return self.disk / "cache"

    @property
    def out(self) -> str:
        """What commands are told."""
        return self.url or str(self.cache)

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.disk / "run"

    @property
    def ranks(self) -> int:
        """Processes that train: as many as undisturbed ones did, at most."""
        return min(self.devices, max(self.made.run))


def differences(place: Place) -> Iterator[str]:
    """What differs from what undisturbed commands made."""
    found = {"cache": contents(place.cache)}
    if place.url:
        store = open_store(place.url)
        found["bucket"] = {name: store.get(name) for name in store.sizes()}
    for where, files in found.items():
        for name in files.keys() | place.made.cache.keys():
            if files.get(name) != place.made.cache.get(name):
                there = "more" if name not in place.made.cache else "lacks" if name not in files else "differs"
                yield f"{where}: {name}: {there}"
    for name, content in of_run(place.run).items():
        if content != place.made.run[place.ranks][name]:
            yield f"run: {name} differs"
    if measurements(place.run) != place.made.measured[place.ranks]:
        yield f"run: measured {measurements(place.run)}, not {place.made.measured[place.ranks]}"
    for name in names(place.run) - place.made.files:
        yield f"run: {name}: more"


def left(place: Place, turmoil: Turmoil) -> Iterator[str]:
    """What commands left behind: processes, and files beside their results."""
    until = time.monotonic() + ENDS_S
    while (living := turmoil.living()) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in living:
        yield f"process {pid} lives: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"
    folders = [path for path in place.disk.iterdir() if path.name not in LIVING]
    for path in (each for folder in folders for pattern in LEFTOVERS for each in folder.rglob(pattern)):
        yield f"left: {path.relative_to(place.disk)}"
    for path in place.disk.glob("*/tmp/*"):
        if path.parent.parent.name not in LIVING:
            yield f"left: {path.relative_to(place.disk)}"


def grown(rounds: Sequence[Mapping[str, int]]) -> Iterator[str]:
    """What a process that lives throughout holds more of in the end than after its beginning."""
    wrong = {str(each["said"]) for each in rounds} - {"read", "run", "full"}
    yield from wrong
    if len(rounds) < FEWEST_ROUNDS:
        yield f"only {len(rounds)} rounds"
        return
    third = len(rounds) // 3
    early, late = rounds[2 : 2 + third], rounds[-third:]
    for what, more in (("memory", GROWS_BYTES), ("files", 2), ("threads", 2), ("maps", 40)):
        before, after = (statistics.median(each[what] for each in some) for some in (early, late))
        if after > before + more:
            yield f"{what}: {before:,.0f} after its beginning and {after:,.0f} in the end, of {len(rounds)} rounds"
