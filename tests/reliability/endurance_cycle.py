"""Endurance's cycle: one work from its first shard to its evaluation, all under kills, and what is checked then."""

import shutil
from collections import Counter
from pathlib import Path

from endurance_checks import LIVING, Place, differences, left
from endurance_work import Made, Work
from turmoil import Over, Turmoil

from shards.stores import open_store

KEPT_ROWS = "2MB"
"""Of the row cache, on the small disk."""


class Lane:
    """The cycles on one disk, one after the other."""

    def __init__(self, disk: Path, turmoil: Turmoil, works: list[tuple[Work, Made]], url: str, offset: int) -> None:
        self.disk, self.turmoil, self._works, self._url, self._offset = disk, turmoil, works, url, offset
        self.cycles: Counter[str] = Counter()

    def cycle(self, number: int) -> None:
        """One cycle, whose faults its turmoil knows; cut off where that is over."""
        number += self._offset
        work, made = self._works[number % len(self._works)]
        url = f"{self._url}-{number}" if number % 2 else None
        place = Place(work, made, self.disk, url, 1 + number // 2 % 2)
        kind = f"{work.name} in a {'bucket' if url else 'folder'} on {self.disk.name}, {place.devices} processes"
        before = len(self.turmoil.faults)
        try:
            for command in (self._extract, self._grow, self._train, self._evaluate, self._check_whole):
                command(place)
        except Over:
            return
        for fault in [*differences(place), *left(place, self.turmoil)]:
            self.turmoil.fault(f"cycle {number}, {kind}: {fault}")
        self.cycles[kind] += 1
        if len(self.turmoil.faults) > before:
            kept = self.turmoil.logs / f"cycle-{number}"
            shutil.copytree(self.disk, kept, symlinks=True, ignore=shutil.ignore_patterns(*LIVING))
        self._clear(place)

    def _clear(self, place: Place) -> None:
        """The disk has what processes that live on need, and the row caches; the bucket has nothing of the cycle."""
        for path in self.disk.iterdir():
            for each in path.glob("*/*") if path.name in ("one", "two") else [path]:
                if each.name not in (*LIVING, ".rows"):
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
        if place.url:
            store = open_store(place.url)
            for name in store.sizes():
                store.remove(name)

    def _home(self, machine: str) -> dict[str, str]:
        """The environment of a machine, whose local cache and temporary files lie on the small disk."""
        home, temporary = self.disk / machine / "home", self.disk / machine / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {"TEACHER_SHARDS_LOCAL_CACHE": str(home), "TMPDIR": str(temporary)}

    def _extract(self, place: Place) -> None:
        self._share(place, place.work.views[0])

    def _grow(self, place: Place) -> None:
        self._share(place, place.work.views[1])

    def _share(self, place: Place, views: int) -> None:
        """One command of one process or two, or two commands that share the work; those of a bucket on two machines."""
        machines = [self._home(name) for name in ("one", "two")]
        if place.url or (place.devices == 1 and views > place.work.views[0]):
            words = place.work.extract(place.out, views, "--launch", "shared", "--devices", "cpu")
            self.turmoil.until_done([words, words], machines)
        else:
            words = place.work.extract(place.out, views, "--devices", "cpu" if place.devices == 1 else "2")
            self.turmoil.until_done([words], machines[:1], place.devices)

    def _train(self, place: Place) -> None:
        more = ["--devices", "cpu" if place.ranks == 1 else "2"]
        more += ["--read", f"local_cache={KEPT_ROWS}"] if place.url else []
        words = place.work.distill(place.out, place.run, *more)
        self.turmoil.until_done([words], [self._home("one")], place.ranks)

    def _evaluate(self, place: Place) -> None:
        self.turmoil.until_done([place.work.evaluate(place.run)], [self._home("one")])

    def _check_whole(self, place: Place) -> None:
        """Every byte is verified, a bucket's after it was pulled; and a last command finds nothing to do."""
        pull = [["shards", "pull", place.url, str(place.cache)]] if place.url else []
        for words in (*pull, ["shards", "verify", str(place.cache)]):
            self.turmoil.until_done([words], [self._home("two")])
        shared = ("--launch", "shared") if place.url else ()
        words = place.work.extract(place.out, place.work.views[1], *shared, "--devices", "cpu")
        for machine in ("one", "two") if place.url else ("one",):
            self.turmoil.undisturbed(words, self._home(machine))
