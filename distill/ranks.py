"""Ranks: the processes of `--devices N`, one a device, and one line for whatever ends one of them.

The command that the user typed trains nothing itself: it starts the first rank, which refuses what cannot be trained,
and the others when that one is about to train. Of ranks that fail together, since a disk is full or one was killed, it
tells the reason alone: what the others say is that they lost each other.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from typing import Any

from shards.command.children import ended_from_outside, is_from_outside
from shards.command.devices import parse_devices
from shards.command.run import INTERRUPTED, READER_GONE, mistake_in, starting_children
from shards.errors import BadInput, TeacherShardsError

_REPORT = "TEACHER_SHARDS_RANK_REPORT"
"""Set in a rank: the descriptor on which it tells its command what that is to know."""
_BEGINS, _ASKS = "begins", "starts the others"
_PAUSE_S, _GRACE_S, _FAREWELL_S = 0.05, 10.0, 30.0
"""How often ranks are looked after; how long they have to end after one of them failed, and where all are to end."""
_MOST_LINES = 1000


def num_ranks(devices: str) -> int:
    """The processes that this command is to start for --devices; 1 where it trains itself, as a rank does."""
    if "LOCAL_RANK" in os.environ or "SLURM_PROCID" in os.environ or devices in ("cpu", "1"):
        return 1
    return len(parse_devices("devices", devices).indices)


def is_rank() -> bool:
    """Whether `run_ranks` started this process."""
    return _REPORT in os.environ


def start_others() -> None:
    """The first rank is about to train and needs the others, if this process is of several.

    Only now is it known at which port they meet: what was free when the command began may be taken hours later.
    """
    if is_rank() and os.environ["LOCAL_RANK"] == "0":
        os.environ["MASTER_PORT"] = _free_port()
        _report(f"{_ASKS} {os.environ['MASTER_PORT']}")


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """In a rank, what ends the block is told to the command that started it, which tells the user once."""
    if is_rank():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and theirs, ignore it
        _report(_BEGINS)
    try:
        yield
    except KeyboardInterrupt:
        if not is_rank():
            raise
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not is_rank() or isinstance(error, BrokenPipeError):
            raise
        mistake = mistake_in(error) if isinstance(error, (TeacherShardsError, OSError)) else None
        _report("".join(traceback.format_exception(error)) if mistake is None else json.dumps({"mistake": mistake}))
        sys.exit(1 if mistake is None else 2)


def _report(text: str) -> None:
    with contextlib.suppress(OSError):  # of a command that is gone
        os.write(int(os.environ[_REPORT]), f"\n{text}\n".encode(errors="backslashreplace"))


class _Rank:
    """One process; its report is read while it runs, and so are the errors of all but the first, which are its echo."""

    def __init__(self, number: int, arguments: list[str], environment: dict[str, str]) -> None:
        self.begins, self.asks, self.port = threading.Event(), threading.Event(), ""
        self.was_killed = False
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        read, write = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distill", *arguments],
                env={**environment, "LOCAL_RANK": str(number), _REPORT: str(write)},
                stderr=write if number else None,
                pass_fds=(write,),
                process_group=0,  # the terminal signals to the command alone, which passes it on
            )
        finally:
            os.close(write)
        self._reads = threading.Thread(target=self._read, args=(read,), daemon=True)
        self._reads.start()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, errors="replace") as lines:
            for line in lines:
                self._lines.append(line)
                if line.strip() == _BEGINS:
                    self.begins.set()
                if line.startswith(_ASKS):
                    self.port = line.removeprefix(_ASKS).strip()
                    self.asks.set()

    def said(self) -> str:
        """What it reported; to be asked after its end."""
        self._reads.join(_GRACE_S)
        return "".join(line for line in [*self._lines] if line.strip() and not line.startswith((_BEGINS, _ASKS)))

    def mistakes(self) -> Iterator[str]:
        """The user's mistake that ended it, if it was one."""
        for line in self.said().splitlines():
            if line.startswith('{"mistake": '):
                yield json.loads(line)["mistake"]

    def status(self) -> int | None:
        """None while it lives, and of one that was killed for the others' sake."""
        return None if self.was_killed else self.process.poll()

    def kill(self) -> None:
        """It has ended."""
        if self.process.poll() is None:
            self.was_killed = True
            self.process.kill()
            self.process.wait()


def run_ranks(arguments: list[str], count: int) -> None:
    """The same command in `count` ranks, which end with this process.

    BadInput where the user's mistake, a full disk or a kill ended one of them; SystemExit, after all that they said,
    where anything else did.
    """
    ranks: list[_Rank] = []
    former = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGTSTP)}
    is_main = threading.current_thread() is threading.main_thread()

    def pause(*arguments: Any) -> None:
        for rank in ranks:
            rank.process.send_signal(signal.SIGSTOP)
        try:
            os.kill(os.getpid(), signal.SIGSTOP)  # it returns when the shell goes on with this command
        finally:  # also to be told to end
            for rank in ranks:
                rank.process.send_signal(signal.SIGCONT)

    try:
        if is_main:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.signal(signal.SIGTSTP, pause)
        with starting_children():
            environment = {"MASTER_ADDR": "127.0.0.1", **os.environ, "NODE_RANK": "0", "WORLD_SIZE": str(count)}
            ranks.append(_Rank(0, arguments, environment))
            while ranks[0].process.poll() is None and not ranks[0].asks.wait(_PAUSE_S):
                pass
            if ranks[0].asks.is_set():
                environment["MASTER_PORT"] = ranks[0].port
                ranks += [_Rank(number, arguments, environment) for number in range(1, count)]
        _await(ranks)
    except KeyboardInterrupt:
        for rank in ranks:
            if rank.begins.is_set():
                rank.process.send_signal(signal.SIGINT)
            else:  # it would tell where it was among its imports
                rank.kill()
        _await(ranks, time.monotonic() + _FAREWELL_S)
        raise
    finally:
        for rank in ranks:
            rank.kill()
        if is_main:
            for each, handler in former.items():
                signal.signal(each, handler)
    _tell(ranks, count)


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("", 0))
        return str(free.getsockname()[1])


def _await(ranks: list[_Rank], deadline: float | None = None) -> None:
    """All have ended; after the first one's end, or a failure, or by the `deadline`, those that do not are killed."""
    while any(rank.process.poll() is None for rank in ranks):
        if deadline is None and (ranks[0].process.poll() is not None or any(rank.status() for rank in ranks)):
            deadline = time.monotonic() + _GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
        time.sleep(_PAUSE_S)


def _tell(ranks: list[_Rank], count: int) -> None:
    failed = [status for rank in ranks if (status := rank.status())]
    if not failed:
        return
    if mistakes := [mistake for rank in ranks for mistake in rank.mistakes()]:
        raise BadInput(mistakes[0])
    if any(is_from_outside(status) for status in failed):
        raise BadInput(ended_from_outside(failed, count, "the last checkpoint"))
    if INTERRUPTED in failed:
        raise KeyboardInterrupt
    if READER_GONE in failed:
        sys.exit(READER_GONE)
    said = "".join(rank.said() for rank in ranks)
    print(f"{said}distill: ranks ended with status {failed}; the same command resumes", file=sys.stderr)
    sys.exit(1)
