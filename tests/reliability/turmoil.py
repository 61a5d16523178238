"""Turmoil: while commands run, processes of theirs are killed every few seconds, and their disk fills up at times."""

import contextlib
import math
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pace import Pace
from small_disk import empty, fill
from spawning import Spawned, Spawner

HANGS_S = 400
"""A command that takes longer waits for what never comes."""
_SPACE = re.compile(r"o space left on device|are free|free some|has room for", re.IGNORECASE)
_LOCKED = re.compile("another (extract|distill) (is writing|trains) here")
_NOTICES_S = 15
_SLOW = 5
_PERIOD_S, _LOOKS_S = 0.05, 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Attempt:
    """One process of a command, and what was done to it."""

    spawned: Spawned
    start: float
    signals: list[int] = field(default_factory=list)
    of_children: list[int] = field(default_factory=list)
    after_kill: bool = False
    """The one before was killed just now: processes that it had started may have the lock until they notice."""


@dataclass
class Running:
    """A command that is started again until it is done."""

    words: Sequence[str]
    environment: Mapping[str, str]
    attempt: Attempt | None = None
    attempts: int = 0
    not_before: float = 0
    killed: float = -math.inf
    is_done: bool = False


class Over(Exception):
    """The turmoil is over before the commands are done."""


class Turmoil:
    """Runs commands of `spawner` to their ends, whatever it does to them; what it did and found is counted."""

    def __init__(self, spawner: Spawner, logs: Path, seed: int, pace: Pace, disk: Path | None = None) -> None:
        """`disk`: the one that fills up."""
        self.spawner, self.logs, self.pace, self.disk = spawner, logs, pace, disk
        logs.mkdir(parents=True)
        self.is_over = False
        """Set by another thread, where no command is to be started again."""
        self._sessions = set[int]()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._chance = random.Random(seed)
        self._full: list[tuple[float, float]] = []
        self._number = 0
        self._worked, self._times = 0.0, dict[int, float]()
        self._next_kill = self._next_fill = self._looks = self._killed = self._room_at = 0.0
        self._is_full = False
        self._attempts, self._slow = 0, 1
        self._wait_for_kill()
        self._wait_for_fill()

    def until_done(
        self, commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], num_processes: int = 1
    ) -> None:
        """Each command, all at the same time, is started again until it ends with 0.

        One that starts `num_processes` of its own is killed less often: these begin with all imports.
        """
        self._slow = _SLOW if num_processes > 1 else 1
        self._attempts = 0
        self._wait_for_kill()
        running = [Running(*each) for each in zip(commands, environments, strict=True)]
        while not all(each.is_done for each in running):
            if self.is_over:
                raise Over
            now = time.monotonic()
            for each in running:
                self._look(each, now)
            self._disturb([each.attempt for each in running if each.attempt], now)
            self._attempts = max(each.attempts for each in running)
            time.sleep(_PERIOD_S)
        self._make_room()

    def undisturbed(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """The command ends with 0 at once."""
        attempt = self._start(words, environment)
        status = attempt.spawned.status(HANGS_S)
        if status != 0:
            self._fault(words, attempt, f"undisturbed, it ended with {status}")

    def living(self) -> set[int]:
        """The processes that came of these commands and have not ended."""
        return {pid for pid, session in self.spawner.living().items() if session in self._sessions}

    def fault(self, what: str) -> None:
        """Something is wrong."""
        self.faults.append(what)
        print(f"FAULT: {what}", flush=True)

    def _start(self, words: Sequence[str], environment: Mapping[str, str]) -> Attempt:
        self._number += 1
        self.counts["commands"] += 1
        output = self.logs / f"{self._number:06d}"
        output.with_suffix(".words").write_text(" ".join(words))
        spawned = self.spawner.start(words, environment, output)
        self._sessions.add(spawned.pid)
        return Attempt(spawned, time.monotonic())

    def _look(self, running: Running, now: float) -> None:
        """A command that has ended is judged; it begins, or begins again, when its time has come."""
        if running.is_done:
            return
        if running.attempt is None:
            if now >= running.not_before:
                running.attempt = self._start(running.words, running.environment)
                running.attempt.after_kill = now < running.killed + _NOTICES_S
                running.attempts += 1
            return
        attempt = running.attempt
        status = attempt.spawned.status()
        if status is None:
            if now - attempt.start > HANGS_S:
                self._end_hanging(running, attempt)
            return
        running.killed = now if status < 0 else running.killed
        running.attempt, running.not_before = None, now + self._chance.uniform(0, 0.5)
        running.is_done = status == 0
        if wrong := self._wrong(attempt, status):
            self._fault(running.words, attempt, wrong)
            running.is_done = running.is_done or running.attempts > 200
        for path in self.logs.glob(f"{self._number - 200:06d}.*"):
            path.unlink()

    def _wrong(self, attempt: Attempt, status: int) -> str | None:
        """What is wrong with the end of a command; None for one that what was done to it explains."""
        said = attempt.spawned.said()
        lines = [line for line in said.splitlines() if "note:" not in line]
        if "Exception ignored" in said or (status == 0 and "Traceback" in said):
            return f"it ended with {status} and a traceback"
        if status == 0:
            return None
        if status < 0 and -status in attempt.signals:
            return None
        told = signal.SIGTERM in (*attempt.signals, *attempt.of_children)  # a rank's, before its first step
        if status == 130 and told and len(lines) == 1 and "interrupted" in lines[0]:
            return None
        if status == 2 and self._was_full(attempt.start) and len(lines) == 1 and _SPACE.search(lines[0]):
            self.counts["refused for space"] += 1
            return None
        if status == 2 and attempt.after_kill and len(lines) == 1 and _LOCKED.search(lines[0]):
            self.counts["refused while the killed one's processes end"] += 1
            return None
        if attempt.of_children and status == 2 and len(lines) == 1:
            self.counts["ended by a child's end"] += 1
            return None
        done = f"signals {attempt.signals}, its children's {attempt.of_children}"
        return f"it ended with {status} after {done}, {'' if self._was_full(attempt.start) else 'not '}full"

    def _fault(self, words: Sequence[str], attempt: Attempt, what: str) -> None:
        said = f"{attempt.spawned.said('out')}{attempt.spawned.said()}"
        number = len(self.faults)
        (self.logs / f"fault-{number:03d}.txt").write_text(f"{' '.join(words)}\n{what}\n{said}")
        self.fault(f"{words[0]}: {what}: {said[-400:]!r} (fault-{number:03d}.txt: {' '.join(words)})")

    def _end_hanging(self, running: Running, attempt: Attempt) -> None:
        """What each of its processes does is written down, and they are ended."""
        tree = self._tree([attempt])
        with contextlib.suppress(OSError):
            os.kill(attempt.spawned.pid, signal.SIGUSR1)  # faulthandler's
        time.sleep(1)
        self._fault(running.words, attempt, f"it hangs: {tree}, after {attempt.signals}, {attempt.of_children}")
        for pid, _ in tree:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        attempt.signals.append(signal.SIGKILL)
        attempt.start = time.monotonic()

    def _tree(self, attempts: Sequence[Attempt]) -> list[tuple[int, Attempt]]:
        by_session = {attempt.spawned.pid: attempt for attempt in attempts}
        living = self.spawner.living().items()
        return [(pid, by_session[session]) for pid, session in living if session in by_session]

    def _disturb(self, attempts: list[Attempt], now: float) -> None:
        """A kill where one is due, of any process; a disk that is full, or has room again."""
        if self._is_full and now >= self._room_at:
            self._make_room()
        if now < self._looks:
            return
        self._looks = now + _LOOKS_S
        tree = sorted(self._tree(attempts), key=lambda each: each[0])
        times = {pid: seconds_of(pid) for pid, _ in tree}
        self._worked += sum(max(0.0, seconds - self._times.get(pid, 0.0)) for pid, seconds in times.items())
        self._times = times
        if tree and (self._worked >= self._next_kill or now >= self._killed + self.pace.idle * self._patience()):
            self._kill(*self._chance.choice(tree))
            self._wait_for_kill()
        if self.disk is not None and not self._is_full and self._worked >= self._next_fill:
            fill(self.disk, self._chance.randrange(1 << 16))
            self.counts["fills"] += 1
            self._is_full, self._room_at = True, now + self._chance.uniform(*self.pace.full)
            self._full.append((now, self._room_at))

    def _kill(self, pid: int, attempt: Attempt) -> None:
        how = self._chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        is_child = pid != attempt.spawned.pid
        (attempt.of_children if is_child else attempt.signals).append(how)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
            self.counts[f"{how.name}{' of a child' if is_child else ''}"] += 1

    def _make_room(self) -> None:
        if self._is_full and self.disk is not None:
            empty(self.disk)
            self._full[-1] = (self._full[-1][0], time.monotonic())
            self._is_full = False
            self._wait_for_fill()

    def _was_full(self, since: float) -> bool:
        return bool(self._full) and (self._is_full or self._full[-1][1] >= since)

    def _patience(self) -> float:
        """More the more often a command was cut off, so that one is done that begins from nothing each time."""
        return self._slow * (1 + self._attempts / 10)

    def _wait_for_kill(self) -> None:
        rests = self._chance.random() < 0.3
        pause_s = self._chance.uniform(*(self.pace.rests if rests else self.pace.kills))
        self._next_kill, self._killed = self._worked + pause_s * self._patience(), time.monotonic()

    def _wait_for_fill(self) -> None:
        self._next_fill = self._worked + self._chance.uniform(*self.pace.fills)


def seconds_of(pid: int) -> float:
    """Seconds of a core that a process had."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    except OSError:  # it ended in this moment
        return 0.0
    return (int(user) + int(system)) / _TICKS
