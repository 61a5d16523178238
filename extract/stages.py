"""Stages: the threads that an extraction runs on, how batches get onto a device and back, and where the time went.

Views are decoded ahead, threads compute batches one after the other, across shards, and one more thread writes each
shard when its last batch is there. So the slowest stage never waits for the others, and two shards are in work.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
Rows = Mapping[str, Tensor]

BATCHES_IN_FLIGHT = 3
"""On a GPU: one computes, one is queued behind it while the host waits for the rows of a third."""
_IN_WORK = 2
"""Shards that are computed or written at a time; the views of one more are made meanwhile."""


@dataclass
class Seconds:
    """Where the time of a run went: how long each stage was busy, which overlap, and the whole.

    A stage of several threads is busy for a share of a second when as many of its threads are.
    """

    decode: float = 0.0
    """Views made, or read back."""
    copy: float = 0.0
    """Batches taken together, and moved to and from a GPU."""
    teacher: float = 0.0
    encode: float = 0.0
    """By the targets' codecs."""
    write: float = 0.0
    """Files and commits."""
    wait: float = 0.0
    """What computes batches had none."""
    whole: float = 0.0

    def where_it_went(self) -> dict[str, float]:
        """By the names of the stages, to be printed."""
        return {each.name: round(getattr(self, each.name), 3) for each in fields(Seconds)}

    def held_by(self) -> str:
        """The stage that was busy for the longest, and its share of the time: 'teacher (82%)'."""
        slowest = max(STAGES, key=partial(getattr, self))
        return f"{slowest} ({getattr(self, slowest) / max(self.whole, 1e-9):.0%})"


STAGES = ("decode", "copy", "teacher", "encode", "write")


def stages_on(device: torch.device, num_threads: int) -> "Stages":
    """The stages of a process whose teacher is on `device`; on a CPU `num_threads` batches are computed at a time."""
    return CudaStages(device) if device.type == "cuda" else Stages(num_threads)


class Stages:
    """A CPU's: views lie where they are computed, and what a call returns is computed.

    A batch has one thread. A kernel that shares a batch between threads adds up in an order that their number decides;
    a batch that one thread computes has the same bits on any number of cores. It is also faster: nobody waits at
    barriers.
    """

    computing: tuple[str, ...] = ("copy", "teacher", "encode")
    """Stages of the threads that compute batches; what they leave of the time is waited."""

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads
        self._busy, self._lock = dict.fromkeys(STAGES, 0.0), threading.Lock()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block is a part of the stage `name`."""
        start = time.perf_counter()
        yield
        self._add(name, (time.perf_counter() - start) / (self.num_threads if name in self.computing else 1))

    def onto(self, gather: Callable[[], Rows]) -> Rows:
        """The fields that `gather` takes together on the host, on the device."""
        with self.stage("copy"):
            return gather()

    def back(self, rows: Rows) -> Rows:
        """The device's rows on the host, computed."""
        return rows

    def seconds(self, whole: float) -> Seconds:
        """Where `whole` seconds went."""
        waited = max(0.0, whole - sum(self._busy[name] for name in self.computing))
        return Seconds(**self._busy, wait=waited, whole=whole)

    def _add(self, name: str, seconds: float) -> None:
        with self._lock:
            self._busy[name] += seconds


class CudaStages(Stages):
    """A GPU's: all batches are computed on its current stream, and copied from and to pinned memory on two others.

    Whoever queues work has its turn, so that a batch's kernels follow each other and events beside them tell the
    device's own time. Nobody waits in a turn: the GPU has the next batch when it is done with one.
    """

    computing = ("teacher", "encode")

    def __init__(self, device: torch.device) -> None:
        super().__init__(BATCHES_IN_FLIGHT)
        self.device = device
        self._in, self._out = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._turn, self._events = threading.Lock(), deque[tuple[str, torch.cuda.Event, torch.cuda.Event]]()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What the block queues is a part of the stage `name`; decode and write are the host's."""
        if name not in self.computing:
            with super().stage(name):
                yield
            return
        with self._turn, self._between(name, torch.cuda.current_stream(self.device)):
            yield

    def onto(self, gather: Callable[[], Rows]) -> Rows:
        """The fields, of which the stream that computes may make use once they are there."""
        pinned = {name: rows.pin_memory() for name, rows in gather().items()}
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._in), self._between("copy", self._in) as there:
            moved = {name: rows.to(self.device, non_blocking=True) for name, rows in pinned.items()}
        compute.wait_event(there)
        for rows in moved.values():
            rows.record_stream(compute)  # their memory is not given away before it has been read
        return moved

    def back(self, rows: Rows) -> Rows:
        """The rows in pinned memory, when the copy is through."""
        self._out.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._out), self._between("copy", self._out) as there:
            host = {name: torch.empty_like(each, device="cpu", pin_memory=True) for name, each in rows.items()}
            for name, each in rows.items():
                host[name].copy_(each, non_blocking=True)
                each.record_stream(self._out)
        there.synchronize()
        self._count()
        return host

    def seconds(self, whole: float) -> Seconds:
        """As on a CPU, in seconds of the device where it is the device that works."""
        torch.cuda.synchronize(self.device)
        self._count()
        return super().seconds(whole)

    @contextlib.contextmanager
    def _between(self, name: str, stream: torch.cuda.Stream) -> Iterator[torch.cuda.Event]:
        start, end = (torch.cuda.Event(enable_timing=True, blocking=True) for _ in range(2))
        start.record(stream)
        yield end
        end.record(stream)
        with self._lock:
            self._events.append((name, start, end))

    def _count(self) -> None:
        """The seconds between events that are over are counted, and the events given back."""
        with self._lock:
            over = [self._events.popleft() for _ in range(len(self._events)) if self._events[0][2].query()]
        for name, start, end in over:
            self._add(name, start.elapsed_time(end) / 1000)


class Behind:
    """Threads that compute the batches of shards in order, and one that writes each shard when its last one is there.

    A mistake in what they do is raised by the next `submit` or at the end. When the block ends with a mistake of its
    own, what was submitted is still done; when it is interrupted, or they fail, what has not begun is dropped.
    """

    def __init__(self, num_threads: int) -> None:
        self._compute, self._writer = ThreadPoolExecutor(num_threads), ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> "Behind":
        return self

    def submit(self, batches: Sequence[Callable[[], Result]], write: Callable[[Iterator[Result]], None]) -> None:
        """`write` gets the results of a shard's `batches` in order; waits until few shards are in work."""
        results = [self._compute.submit(batch) for batch in batches]
        self._pending.append(self._writer.submit(write, (result.result() for result in results)))
        if len(self._pending) == _IN_WORK:
            self._wait()

    def _wait(self) -> None:
        self._pending[0].result()
        self._pending.popleft()

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        try:
            while self._pending and (kind is None or issubclass(kind, Exception)):
                self._wait()
        finally:
            self._compute.shutdown(cancel_futures=True)
            self._writer.shutdown(cancel_futures=True)
