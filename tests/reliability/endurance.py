"""Endurance: extraction, growth, training and evaluation, over and over, on small disks that fill up, under kills.

Two lanes work at a time, one on a disk in memory and one on ext4; their cycles alternate between a folder and a bucket,
and between kinds of views. Any process of any command is killed every few seconds, and each command is started again
until it is done. Two processes live throughout: one reads epochs, the other runs whole commands in itself.
"""

import contextlib
import json
import logging
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from endurance_checks import FEWEST_ROUNDS, LIVING, grown
from endurance_cycle import Lane
from endurance_work import Made, Work, make, works
from pace import Pace
from s3_server import make_bucket, served
from small_disk import KINDS, small_disk, used_bytes
from spawning import Spawned, Spawner
from turmoil import HANGS_S, Turmoil

DISK_BYTES = 64 << 20


@dataclass
class Endured:
    """What was done and found."""

    cycles: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rounds: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    """Of each process that lived throughout, what it held of the system after each of its rounds."""


class Endurance:
    """Everything that lives throughout: the disks, the bucket's server, the process that forks, and what it made."""

    def __init__(self, root: Path, seed: int, pace: Pace, only: Sequence[str]) -> None:
        self.root, self.stack = root, contextlib.ExitStack()
        self.calm: list[Turmoil] = []
        """Of undisturbed commands."""
        try:
            self._begin(seed, pace, only)
        except BaseException:
            self.stack.close()
            raise

    def _begin(self, seed: int, pace: Pace, only: Sequence[str]) -> None:
        self.stack.enter_context(mock.patch.dict(os.environ))
        disks = [self.stack.enter_context(small_disk(self.root, kind, DISK_BYTES)) for kind in KINDS]
        # undisturbed commands work in memory too: what they make is compared, not how long a disk takes for it
        self.reference = self.stack.enter_context(small_disk(self.root / "reference", "tmpfs", 4 * DISK_BYTES))
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        port, upstream, _ = self.stack.enter_context(served())
        self.bucket = make_bucket(upstream)
        environment = self._environment(port)
        os.environ.update(environment)
        self.spawner = Spawner(uuid.uuid4().hex, environment)
        self.stack.callback(self.spawner.close)
        asked = [work for work in works(self.reference) if not only or work.name in only]
        with ThreadPoolExecutor(len(asked)) as pool:
            made = list(zip(asked, pool.map(self._made, asked), strict=True))
        self.living = {what: self._live(what, disks[0], asked[0]) for what in LIVING}
        self.lanes = []
        for number, disk in enumerate(disks):
            turmoil = Turmoil(self.spawner, self.root / "logs" / disk.name, 2 * seed + number, pace, disk)
            self.lanes.append(Lane(disk, turmoil, made, f"s3://{self.bucket}/{disk.name}", number))

    def _environment(self, port: int) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SHARED_CREDENTIALS_FILE": str(self.root / "absent"),
            "AWS_CONFIG_FILE": str(self.root / "absent"),
            "TEACHER_SHARDS_RETRY_S": "5",
            "TEACHER_SHARDS_LEASE_S": "2",
            "TEACHER_SHARDS_LOCAL_CACHE": str(self.root / "home"),
            "CUDA_VISIBLE_DEVICES": "",
            # each of many arenas keeps what a thread once freed there, which looks like a leak
            "MALLOC_ARENA_MAX": "2",
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        }

    def _calm(self, name: str) -> Turmoil:
        self.calm.append(Turmoil(self.spawner, self.root / "logs" / name, 0, Pace()))
        return self.calm[-1]

    def _made(self, work: Work) -> Made:
        turmoil = self._calm(work.name)
        made = make(work, self.reference, lambda words: turmoil.undisturbed(words, {}))
        assert not turmoil.faults, "there is nothing to compare with"
        return made

    def _live(self, what: str, disk: Path, work: Work) -> Spawned:
        """A process that reads this work's cache, and the same from a bucket, until the end."""
        folder, url = self.reference / work.name / "cache", f"s3://{self.bucket}/{what}"
        self._calm(what).undisturbed(["shards", "push", str(folder), url], {})
        place = disk / what
        place.mkdir()
        words = ["long_lived", what, str(folder), str(place), url, str(self.root / f"{what}.json")]
        environment = {"TEACHER_SHARDS_LOCAL_CACHE": str(place / "home"), "TMPDIR": str(place)}
        return self.spawner.start(words, environment, self.root / "logs" / what / "lives")

    def run(self, until: float, cycles: int) -> None:
        """Each lane's cycles until that time, or so many of them."""
        over = threading.Event()

        def of_lane(lane: Lane) -> None:
            number = 0
            while not over.is_set() and (time.monotonic() < until if not cycles else number < cycles):
                start = time.monotonic()
                lane.cycle(number)
                number += 1
                counts = ", ".join(f"{count:,} {name}" for name, count in sorted(lane.turmoil.counts.items()))
                used = f"{used_bytes(lane.disk) / 1e6:.1f} MB used"
                print(
                    f"{lane.disk.name}: cycle {number}: {time.monotonic() - start:,.0f} s; {counts}; {used}", flush=True
                )

        with ThreadPoolExecutor(len(self.lanes)) as pool:
            running = [pool.submit(of_lane, lane) for lane in self.lanes]
            try:
                while any(each.running() for each in running):
                    time.sleep(0.2)
            except KeyboardInterrupt:
                print("interrupted: the cycles at work are not judged", flush=True)
                for lane in self.lanes:
                    lane.turmoil.is_over = True
            finally:
                over.set()
        for each in running:
            each.result()

    def close(self) -> Endured:
        """All that lived has ended; what it held is judged."""
        endured = Endured()
        for what, lived in self.living.items():
            journal, until = self.root / f"{what}.json", time.monotonic() + HANGS_S
            while lived.status() is None and len(rounds_in(journal)) < FEWEST_ROUNDS and time.monotonic() < until:
                time.sleep(0.2)
            if (status := lived.status()) is not None:
                endured.faults.append(f"{what}: ended with {status}: {lived.said()[-600:]}")
            endured.rounds[what] = rounds_in(journal)
            endured.faults += [f"{what}: {fault}" for fault in grown(endured.rounds[what])]
        self.stack.close()
        for lane in self.lanes:
            endured.cycles += lane.cycles
        for turmoil in [*self.calm, *(lane.turmoil for lane in self.lanes)]:
            endured.counts += turmoil.counts
            endured.faults += turmoil.faults
        return endured


def rounds_in(journal: Path) -> list[dict[str, int]]:
    """What a process that lives throughout wrote down; what it writes in this moment is left out."""
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
    return [json.loads(line) for line in lines]


def endure(
    root: Path, minutes: float, seed: int = 0, pace: Pace | None = None, only: Sequence[str] = (), cycles: int = 0
) -> Endured:
    """Cycles for so many minutes, or so many of each lane; what was found. NoDisk where none may be mounted."""
    endurance = Endurance(root, seed, pace or Pace(), only)
    try:
        endurance.run(time.monotonic() + 60 * minutes, cycles)
    finally:
        endured = endurance.close()
    return endured


def tell(root: Path, minutes: float, seed: int, only: Sequence[str]) -> None:
    """A run in `root`, printed; AssertionError where something was wrong. SIGINT and SIGTERM end it early."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    endured = endure(root, minutes, seed, only=only)
    for name, count in [*sorted(endured.cycles.items()), *sorted(endured.counts.items())]:
        print(f"{count:8,}  {name}")
    for what, rounds in endured.rounds.items():
        first, last = rounds[2], rounds[-1]
        held = ", ".join(f"{name} {first[name]:,} -> {last[name]:,}" for name in ("memory", "files", "threads", "maps"))
        print(f"{len(rounds):8,}  rounds of the {what}: {held}")
    for fault in endured.faults:
        print(f"FAULT: {fault}")
    assert not endured.faults, f"{len(endured.faults)} faults"
