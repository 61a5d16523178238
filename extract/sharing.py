"""Sharing: commands on several machines work on one folder, without a coordinator.

What is done is what has a commit record, created only if absent. A lease is a hint against double work: who takes a
shard creates a file and touches it while it works. Others take the shard once they have watched that file for LEASE_S
seconds of their own clock without a change, so no machine's time of day matters. A lease may be lost or stolen freely:
two machines write the same bytes.
"""

import contextlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path

import torch

from extract.pipeline import Counts, Extraction, Place
from shards.commit import create, make_folder
from shards.errors import BadInput
from shards.layout import commit_path, shard_name
from shards.lock import locked

SHARING = ".sharing"
"""In a cache, while commands share the work on it: leases, and the type of device that a target set is made on."""
LEASE_S = "TEACHER_SHARDS_LEASE_S"
"""Seconds without a sign of life after which a shard is taken over (default: 30)."""
_BLOCK = 4
"""Shards that are taken at a time, at most: the next one's views are made while the teacher works on one."""
_WATCHED = 16
"""Others' leases that are looked at before free shards are taken: who vanished is noticed, with few requests."""
_POLLS_A_LEASE = 20


class Leases:
    """The shards that this process works on, and what it has seen of the others'."""

    def __init__(self, folder: Path) -> None:
        self.lease_s = float(os.environ.get(LEASE_S, "30"))
        self._folder, self._mine = folder, set[Path]()
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> "Leases":
        make_folder(self._folder)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for path in self._mine:
            path.unlink(missing_ok=True)

    def names(self) -> set[str]:
        """Of all shards that are leased."""
        return _names_in(self._folder)

    def take(self, place: Place, is_leased: bool = False) -> bool:
        """Whether the shard is ours now: nobody had it, or who had it gave no sign of life."""
        path = self._folder / shard_name(*place)
        if not is_leased and self._created(path):
            return True
        try:
            status = path.stat()
        except FileNotFoundError:  # given back in this moment
            return self._created(path)
        mark, now = (status.st_ino, status.st_mtime_ns), time.monotonic()
        if path not in self._seen or self._seen[path][0] != mark:
            self._seen[path] = mark, now
        if now - self._seen[path][1] < self.lease_s:
            return False
        path.unlink(missing_ok=True)
        return self._created(path)

    def give_back(self, places: Iterable[Place]) -> None:
        """Others may take these shards, and find them committed."""
        for place in places:
            path = self._folder / shard_name(*place)
            self._mine.discard(path)
            path.unlink(missing_ok=True)

    def _created(self, path: Path) -> bool:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
        except FileNotFoundError:  # a command that has finished removed the folder
            make_folder(self._folder)
            return False
        self._mine.add(path)
        return True

    def _touch(self) -> None:
        while not self._stop.wait(self.lease_s / 6):
            for path in list(self._mine):
                with contextlib.suppress(FileNotFoundError):  # stolen, which costs double work and nothing else
                    os.utime(path)


def run_shared(extraction: Extraction) -> Counts:
    """Every shard of `extraction` is committed when this returns, by this process or by another.

    Each process begins each view at a shard of its own, so that they seldom try the same.
    """
    first, num_shards = random.SystemRandom().random(), extraction.views.plan.num_shards
    places = extraction.views.places()
    left = sorted(places, key=lambda place: (place[0], (place[1] - int(first * num_shards)) % num_shards))
    total, most = Counts(), 1
    with Leases(_place_of(extraction.views.folder)) as leases:
        while left:
            names = leases.names()
            left = _uncommitted(extraction, left)
            leased = [place for place in left if shard_name(*place) in names]
            free = [place for place in left if shard_name(*place) not in names]
            watched = leased[:_WATCHED] if free else leased
            ours = chain((p for p in watched if leases.take(p, is_leased=True)), (p for p in free if leases.take(p)))
            taken = list(islice(ours, most))
            if taken:
                try:
                    counts = replace(extraction, places=taken).run()
                    total = Counts(**{name: n + getattr(counts, name) for name, n in asdict(total).items()})
                finally:
                    leases.give_back(taken)
            elif left:
                time.sleep(leases.lease_s / _POLLS_A_LEASE)
            most = min(_BLOCK, 1 + len(free) // (1 + len(leased)))  # few at a time where many share the last ones
    return total


def _uncommitted(extraction: Extraction, places: list[Place]) -> list[Place]:
    """Those of `places` that lack something: a listing a set, where a look at each record would be many requests."""
    jobs = [job for part in extraction.parts for job in part.targets]
    folders = [extraction.views.folder, *(job.folder for job in jobs)]
    views, *targets = [_names_in((folder / commit_path(0, 0)).parent) for folder in folders]

    def lacks(place: Place) -> bool:
        name = Path(commit_path(*place)).name
        of_jobs = zip(jobs, targets, strict=True)
        return name not in views or any(place[0] < job.num_views and name not in names for job, names in of_jobs)

    return [place for place in places if lacks(place)]


def _names_in(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:  # nothing is committed yet, or a command that has finished removed the leases
        return set()


@contextlib.contextmanager
def turn(cache: Path) -> Iterator[None]:
    """One of the commands that share `cache` begins or finishes at a time; the others wait here."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(cache / SHARING / "turn", ""))
            except BadInput:
                time.sleep(0.1)
                continue
            yield
            return


def check_device(viewset: Path, target_sets: Iterable[str], device: torch.device) -> None:
    """All machines that make a target set have the same type of device; BadInput for one of another type."""
    ours = device_type(device)
    for name in target_sets:
        path = _place_of(viewset) / f"{name}.device"
        theirs = create(path, ours.encode())
        if theirs is not None and theirs.decode() != ours:
            raise BadInput(
                f"{path}: {name} is being made on {theirs.decode()}, and this machine has {ours}, which computes other "
                f"bytes; share it among machines of one type, or give another --out"
            )


def clear(viewset: Path) -> None:
    """Every shard is committed: no lease on one is left, and no word on devices."""
    shutil.rmtree(_place_of(viewset), ignore_errors=True)


def _place_of(viewset: Path) -> Path:
    return viewset.parent / SHARING / viewset.name


def device_type(device: torch.device) -> str:
    """What decides the bits that a device computes: a GPU's name, a CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {torch.backends.cpu.get_cpu_capability()}"
