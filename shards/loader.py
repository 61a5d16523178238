"""Loader: batches as a training step receives them, read by threads of this process into a ring of reused buffers.

No worker processes: each batch of a torch DataLoader is copied into fresh shared memory, which delivers 0.13 of what
the same process reads inline. Decoding and gathering release the interpreter lock, so threads are enough.
"""

import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from shards import images
from shards.reader import TargetSet, ViewSet, typed

IMAGES_PER_TASK = 8


@runtime_checkable
class Selection(Protocol):
    """What a loader reads, in order: (view, samples) of one batch after the other."""

    def __call__(self) -> Iterator[tuple[int, Int[np.ndarray, " count"]]]:
        """A fresh pass over the batches."""
        ...


@dataclass
class Batch:
    """One batch, valid until `hold` further ones have been taken from the loader that gave it."""

    view: int
    samples: Int[np.ndarray, " batch"]
    images: UInt8[Tensor, "batch height width 3"]
    labels: Int64[Tensor, " batch"] | None
    targets: list[dict[str, Any]]
    """For each target set, its stored arrays (batch, *row_shape), encoded."""
    copied: Any = None
    """A CUDA event after which the buffers may be overwritten; set by whoever copies them to a device."""

    @property
    def num_bytes(self) -> int:
        """Bytes of pixels, labels and encoded targets: all that goes to a device."""
        parts = [self.images, self.labels, *(rows for arrays in self.targets for rows in arrays.values())]
        return sum(part.nbytes for part in parts if part is not None)


@dataclass
class _Slot:
    images: UInt8[Tensor, "batch height width 3"]
    targets: list[dict[str, UInt8[Tensor, "batch _"]]]
    last: Batch | None = None
    pending: list[Future[None]] = field(default_factory=list)


class BatchLoader:
    """Iterates over `selection`; `num_threads` threads decode images, one gathers targets and runs ahead."""

    def __init__(
        self,
        viewset: ViewSet,
        targetsets: Sequence[TargetSet],
        selection: Selection,
        batch_size: int,
        *,
        labels: bool = False,
        num_threads: int = 1,
        ring: int = 6,
        hold: int = 2,
        pin_memory: bool = False,
    ) -> None:
        if ring <= hold:
            raise ValueError(f"a ring of {ring} buffers cannot hold {hold} batches and fill another")
        self.viewset, self.targetsets, self.selection = viewset, targetsets, selection
        self.labels, self.num_threads, self.hold = labels, num_threads, hold
        size = viewset.image_size

        def buffer(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)

        self._slots = [
            _Slot(
                buffer(batch_size, size, size, 3),
                [{name: buffer(batch_size, spec.row_bytes) for name, spec in t.arrays.items()} for t in targetsets],
            )
            for _ in range(ring)
        ]

    def __iter__(self) -> Iterator[Batch]:
        free: queue.Queue[_Slot | None] = queue.Queue()
        ready: queue.Queue[tuple[_Slot, Batch] | BaseException | None] = queue.Queue()
        for slot in self._slots:
            free.put(slot)
        held: list[_Slot] = []
        pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="decode")
        reader = threading.Thread(target=self._read, args=(pool, free, ready), name="gather", daemon=True)
        reader.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                slot, batch = item
                for task in slot.pending:
                    task.result()
                held.append(slot)
                yield batch
                if len(held) > self.hold:
                    free.put(held.pop(0))
        finally:
            if not sys.is_finalizing():  # an iterator that is left behind at exit has no threads any more
                free.put(None)
                pool.shutdown(wait=True, cancel_futures=True)
                reader.join()

    def _read(self, pool: ThreadPoolExecutor, free: "queue.Queue[_Slot | None]", ready: "queue.Queue[Any]") -> None:
        try:
            for view, samples in self.selection():
                slot = free.get()
                if slot is None:
                    return
                if slot.last is not None and slot.last.copied is not None:
                    slot.last.copied.synchronize()
                ready.put((slot, self._fill(pool, slot, view, samples)))
            ready.put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            ready.put(error)

    def _fill(self, pool: ThreadPoolExecutor, slot: _Slot, view: int, samples: Int[np.ndarray, " count"]) -> Batch:
        count = len(samples)
        pixels = slot.images[:count].numpy()
        indices = samples.tolist()
        slot.pending = [
            pool.submit(self._decode, view, indices[start : start + IMAGES_PER_TASK], pixels[start:])
            for start in range(0, count, IMAGES_PER_TASK)
        ]
        targets = []
        for targetset, buffers in zip(self.targetsets, slot.targets, strict=True):
            raw = {name: buffer[:count].numpy() for name, buffer in buffers.items()}
            targetset.gather(view, samples, raw)
            targets.append({name: torch.from_numpy(typed(raw[name], targetset.arrays[name])) for name in raw})
        labels = read_labels(self.viewset, view, indices) if self.labels else None
        slot.last = Batch(view, samples, slot.images[:count], labels, targets)
        return slot.last

    def _decode(self, view: int, samples: list[int], out: UInt8[np.ndarray, "count height width 3"]) -> None:
        member = images.ending(self.viewset.identity["image_format"])
        for position, sample in enumerate(samples):
            images.decode(self.viewset.content(view, sample, member), out[position])


def read_labels(viewset: ViewSet, view: int, samples: Sequence[int]) -> Int64[Tensor, " count"]:
    """The class labels of `samples`, as stored beside their views."""
    return torch.tensor([int(viewset.content(view, sample, "cls")) for sample in samples], dtype=torch.int64)


def in_order(samples: Int[np.ndarray, " count"], batch_size: int, view: int = 0) -> Selection:
    """Every sample once, in the order given, the last batch short: for validation and evaluation."""

    def batches() -> Iterator[tuple[int, Int[np.ndarray, " count"]]]:
        for start in range(0, len(samples), batch_size):
            yield view, samples[start : start + batch_size]

    return batches
