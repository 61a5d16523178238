"""Loader: batches as a training step receives them, read by threads of this process into a ring of reused buffers.

No worker processes: each batch of a torch DataLoader is copied into fresh shared memory, which delivers 0.13 of what
the same process reads inline. Decoding, gathering and reading release the interpreter lock, so threads are enough.
"""

import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import call
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Int64, Shaped, UInt8
from torch import Tensor

from shards.arrays import typed
from shards.order import Reading
from shards.ranges import request_threads
from shards.reader import Component, TargetSet


class Part(NamedTuple):
    """What one batch of a loader reads: a part of a global batch."""

    readings: Sequence[Reading]
    """By component; their rows follow each other in the batch. Empty where the next batch is not known yet."""
    banks: Mapping[str, Sequence[Reading]] = {}
    """Of a target set, by its name, further rows."""


@runtime_checkable
class Order(Protocol):
    """What a loader reads, one batch after the other."""

    def __call__(self) -> Iterator[Part]:
        """A fresh pass over the batches."""
        ...


@dataclass
class Batch:
    """One batch, valid until `hold` further ones have been taken from the loader that gave it."""

    readings: Sequence[Reading]
    """Whose rows these are, one reading after the other."""
    fields: dict[str, Tensor]
    """The view codec's fields, a row (batch, ...) a sample."""
    labels: Int64[Tensor, " batch"] | None
    targets: dict[str, dict[str, Tensor]]
    """By the folder's name of the first component's target set, its stored arrays (batch, *row_shape), encoded."""
    bank_readings: Mapping[str, Sequence[Reading]] = field(default_factory=dict)
    banks: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """As `targets`, the rows of other samples (bank, *row_shape), those of `bank_readings`."""
    copied: Any = None
    """A CUDA event after which the buffers may be overwritten; set by whoever copies them to a device."""

    @property
    def samples(self) -> Int[np.ndarray, " batch"]:
        """Each row's sample, as an index into the plan of its component."""
        return np.concatenate([reading.samples for reading in self.readings])

    def to(self, device: torch.device, copy: bool = False) -> "Batch":
        """The batch on `device`, its own buffers busy until the copy is through; itself where it is there already.

        With `copy` the tensors are new ones also where they are there already.
        """
        if device.type == "cpu" and not copy:
            return self
        move = partial(Tensor.to, device=device, non_blocking=True, copy=copy)
        targets, banks = (
            {name: {key: move(x) for key, x in stored.items()} for name, stored in sets.items()}
            for sets in (self.targets, self.banks)
        )
        labels = None if self.labels is None else move(self.labels)
        fields = {name: move(rows) for name, rows in self.fields.items()}
        moved = Batch(self.readings, fields, labels, targets, self.bank_readings, banks)
        if device.type == "cuda":
            self.copied = torch.cuda.Event()
            self.copied.record(torch.cuda.current_stream(device))
        return moved

    @property
    def device(self) -> torch.device:
        """Where the views are."""
        return next(iter(self.fields.values())).device

    @property
    def num_bytes(self) -> int:
        """Bytes of views, labels, encoded targets and banks: all that goes to a device."""
        targets = (rows for arrays in (*self.targets.values(), *self.banks.values()) for rows in arrays.values())
        parts = [*self.fields.values(), self.labels, *targets]
        return sum(part.nbytes for part in parts if part is not None)


Buffers = dict[str, UInt8[Tensor, "_ _"]]
"""Of a target set, one for each stored array."""


@dataclass
class _Slot:
    fields: dict[str, Shaped[Tensor, "batch ..."]]
    targets: dict[str, Buffers]
    banks: dict[str, Buffers]
    last: Batch | None = None


class BatchLoader:
    """Iterates over `order`; `num_threads` threads decode views, and a thread a free buffer reads ahead of them.

    The views and target sets of all `components` have the fields and the arrays of the first one's. `banks` says how
    many rows of other samples a batch has, by the name of the target set.
    """

    def __init__(
        self,
        components: Sequence[Component],
        order: Order,
        batch_size: int,
        *,
        labels: bool = False,
        banks: Mapping[str, int] | None = None,
        num_threads: int = 1,
        ring: int = 6,
        hold: int = 2,
        pin_memory: bool = False,
    ) -> None:
        if ring <= hold:
            raise ValueError(f"a ring of {ring} buffers cannot hold {hold} batches and fill another")
        self.components, self.order = components, order
        self.labels, self.num_threads, self.hold, self.ring = labels, num_threads, hold, ring

        def buffer(count: int, dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.empty(count, *shape, dtype=dtype, pin_memory=pin_memory)

        def buffers(targetset: TargetSet, count: int) -> Buffers:
            return {name: buffer(count, torch.uint8, spec.row_bytes) for name, spec in targetset.arrays.items()}

        viewset, targetsets = components[0].viewset, components[0].targetsets
        fields, sizes = viewset.codec.fields, banks or {}
        self._slots = [
            _Slot(
                {name: buffer(batch_size, getattr(torch, dtype), *shape) for name, (dtype, shape) in fields.items()},
                {each.folder.name: buffers(each, batch_size) for each in targetsets},
                {
                    each.folder.name: buffers(each, sizes[each.folder.name])
                    for each in targetsets
                    if each.folder.name in sizes
                },
            )
            for _ in range(ring)
        ]

    def __iter__(self) -> Iterator[Batch]:
        free: queue.Queue[_Slot | None] = queue.Queue()
        ready: queue.Queue[tuple[_Slot, Future[Batch]] | BaseException | None] = queue.Queue()
        for slot in self._slots:
            free.put(slot)
        held: list[_Slot] = []
        # as many batches are on their way as there are buffers: a volume answers many requests in one latency
        filling = ThreadPoolExecutor(self.ring - self.hold, thread_name_prefix="fill")
        decode, requests = ThreadPoolExecutor(self.num_threads, thread_name_prefix="decode"), request_threads()
        fill: Callable[..., Any] = partial(filling.submit, partial(self._fill, decode, requests))
        reader = threading.Thread(target=self._read, args=(fill, free, ready), name="order", daemon=True)
        reader.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                slot, filled = item
                batch = filled.result()
                held.append(slot)
                yield batch
                if len(held) > self.hold:
                    free.put(held.pop(0))
        finally:
            if not sys.is_finalizing():  # an iterator that is left behind at exit has no threads any more
                free.put(None)
                reader.join()
                filling.shutdown(wait=True, cancel_futures=True)
                decode.shutdown()
                requests.shutdown()

    def _read(self, fill: Callable[..., Any], free: "queue.Queue[_Slot | None]", ready: "queue.Queue[Any]") -> None:
        begun = False
        try:
            for part in self.order():
                slot = free.get()
                if slot is None:
                    return
                if not part.readings:  # asked again and again, so that a loader that is left ends
                    free.put(slot)
                    continue
                if slot.last is not None and slot.last.copied is not None:
                    slot.last.copied.synchronize()
                filled = fill(slot, part)
                ready.put((slot, filled))
                if not begun:  # the first batch, which a run waits for, has all requests to itself
                    begun = not filled.cancelled() and filled.exception() is None
            ready.put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            ready.put(error)

    def _fill(self, decode: Executor, requests: Executor, slot: _Slot, part: Part) -> Batch:
        count = sum(len(reading.samples) for reading in part.readings)
        fields = {name: buffer[:count] for name, buffer in slot.fields.items()}
        rows = {name: buffer.numpy() for name, buffer in fields.items()}
        tasks: dict[tuple[int, int], list[Callable[[], None]]] = {}
        labels, first = [], 0
        for reading in part.readings:
            viewset, indices = self.components[reading.component].viewset, reading.samples.tolist()
            fetched = viewset.fetch(reading.view, indices, self.labels, requests)
            size = viewset.storage.rows_a_task
            for start in range(0, len(indices), size):
                out = {name: buffer[first + start :] for name, buffer in rows.items()}
                some = indices[start : start + size]
                read = partial(viewset.read, reading.view, some, out, reading.epoch, fetched)
                tasks.setdefault((reading.component, some[0]), []).append(read)  # one thread reads a sample's views
            if self.labels:
                labels.append(viewset.labels(reading.view, indices, fetched))
            first += len(indices)
        decoded = [decode.submit(list, map(call, reads)) for reads in tasks.values()]
        targets = self._gather(slot.targets, dict.fromkeys(slot.targets, part.readings), requests)
        banks = self._gather(slot.banks, part.banks, requests)
        all_labels = torch.from_numpy(np.concatenate(labels)) if self.labels else None
        for task in decoded:
            task.result()
        slot.last = Batch(part.readings, fields, all_labels, targets, part.banks, banks)
        return slot.last

    def _gather(
        self, buffers: Mapping[str, Buffers], readings: Mapping[str, Sequence[Reading]], requests: Executor
    ) -> dict[str, dict[str, Tensor]]:
        """The encoded rows of `readings`, by target set, in the first rows of `buffers`, seen as what is stored."""
        gathered = {}
        for number, targetset in enumerate(self.components[0].targetsets):
            name = targetset.folder.name
            if name not in readings:
                continue
            count = sum(len(reading.samples) for reading in readings[name])
            raw = {array: buffer[:count].numpy() for array, buffer in buffers[name].items()}
            first = 0
            for reading in readings[name]:
                out = {array: rows[first : first + len(reading.samples)] for array, rows in raw.items()}
                self.components[reading.component].targetsets[number].gather(
                    reading.view, reading.samples, out, requests
                )
                first += len(reading.samples)
            gathered[name] = {
                array: torch.from_numpy(typed(rows, targetset.arrays[array])) for array, rows in raw.items()
            }
        return gathered
