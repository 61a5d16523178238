"""Arrivals: the batches of an epoch whose view is still being extracted, from shards in the order of their commits.

An epoch is a sequence of windows. A window begins when there are shards that the epoch has not taken, and takes all
of these; what is left of the windows before is shuffled with them by (seed, epoch, window). Batches are cut off until
a share of the samples is left, which the next window mixes with its own; the last window leaves less than a batch. So
the shards of each window decide the whole epoch. They are written to the run's folder before a step uses them, and a
run that goes on takes the same ones again.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from distill.data import CacheData, TrainingBatches
from distill.missing import Extraction
from distill.trainer import is_first_process
from shards.commit import sync_name
from shards.documents import read_commit
from shards.draws import permutation
from shards.errors import BadInput, Damaged
from shards.layout import commit_path, place_of
from shards.loader import Part
from shards.order import BatchOrder, Reading
from shards.reader import Component
from shards.records import Number, record_of

ARRIVALS = "arrivals.jsonl"
"""In a run's folder: a line a window, with its epoch and shards."""
_INTERVAL_S = 0.1
_WINDOWS = 2 << 32
"""The stream of an epoch's first window, beside those of orders and banks; those of the next windows follow."""
_KEPT_SHARDS, _KEPT_SHARE = 8, 8
"""Samples that a window leaves to be mixed with the next: those of 8 shards, at most an eighth of all."""

Shards = list[int]


class Window(msgspec.Struct):
    """A line of ARRIVALS: the shards that a window of an epoch took."""

    epoch: Number
    shards: list[Number]


class Arrivals:
    """What of a component is committed, and which shards each window of an epoch took."""

    def __init__(self, component: Component, path: Path, ended: Callable[[], bool]) -> None:
        """`ended` says whether the extraction made all, and raises its error."""
        self.sets = [component.viewset, *component.targetsets]
        self.plan, self.path, self._ended = component.viewset.plan, path, ended
        self._windows: dict[int, list[Shards]] = {}
        content = path.read_bytes() if path.exists() else b""
        self._size = content.rfind(b"\n") + 1  # a killed run may have left half a line
        for line in content[: self._size].splitlines():
            try:
                window = msgspec.json.decode(line, type=Window)
            except msgspec.DecodeError as error:
                raise Damaged(f"{path}: a line is no window ({error}); give another --run_dir") from None
            self._windows.setdefault(window.epoch, []).append(window.shards)

    def grow(self, epoch: int, view: int) -> bool:
        """Whether an epoch is one of windows: it began as one, or its view is not whole yet."""
        if epoch in self._windows:
            return True
        if len(shards := self._committed(view)) < self.plan.num_shards:
            return True
        self._take(view, sorted(shards))
        return False

    def window(self, epoch: int, view: int, number: int) -> Shards | None:
        """The shards of a window, ready to be read; None, after a moment, where there are none yet."""
        windows, ended = self._windows.setdefault(epoch, []), self._ended()
        committed = self._committed(view)
        shards = windows[number] if number < len(windows) else sorted(committed - set(itertools.chain(*windows)))
        if not shards or not committed.issuperset(shards):
            if ended:
                where = f"{self.sets[0].folder}: the extraction ended, and a shard of view {view} is not there"
                raise Damaged(f"{where}; run the same command again")
            time.sleep(_INTERVAL_S)
            return None
        if number == len(windows):
            self._record(epoch, shards)
            windows.append(shards)
        self._take(view, shards)
        return shards

    def _committed(self, view: int) -> set[int]:
        """The shards of a view that every set has, by the names of the commit records alone."""
        of_sets = []
        for each in self.sets:
            commits = each.folder / "commits"
            names = [path.name for path in commits.iterdir()] if commits.is_dir() else []
            places = (place_of(f"commits/{name}") for name in names)
            of_sets.append({place[1] for place in places if place is not None and place[0] == view})
        return set.intersection(*of_sets)

    def _take(self, view: int, shards: Shards) -> None:
        """The files of these shards may be read, as their sealed commit records say that they are."""
        for each, shard in itertools.product(self.sets, shards):
            relative, files = commit_path(view, shard), each.checked.files
            if relative not in files and (record := read_commit(each.folder, view, shard)) is not None:
                files.update(record.files)
                files[relative] = record_of((each.folder / relative).read_bytes())

    def _record(self, epoch: int, shards: Shards) -> None:
        if not is_first_process():
            return
        line = msgspec.json.encode(Window(epoch, shards)) + b"\n"
        is_new = not self.path.exists()
        with self.path.open("wb" if is_new else "r+b") as file:
            file.truncate(self._size)
            file.seek(self._size)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:  # else a checkpoint could outlive the windows that decided its batches
            sync_name(self.path)
        self._size += len(line)


class ArrivingBatches(TrainingBatches):
    """One rank's training batches: those of windows where a view is not whole when its epoch begins, else the usual."""

    def __init__(self, order: BatchOrder, parts: list[int], banks: dict[str, int], arrivals: Arrivals) -> None:
        super().__init__(order, parts, banks)
        self.arrivals = arrivals

    def readings(self) -> Iterator[Part]:
        """What the batches from `position` to the end of its epoch read; nothing where the next is not there yet."""
        epoch, start = divmod(self.position, len(self))
        view = epoch % self.order.num_views[0]
        if not self.arrivals.grow(epoch, view):
            yield from super().readings()
            return
        place = 0
        for batch in self._batches(epoch, view):
            if batch is None:
                yield Part([])
                continue
            parts = np.sort(batch.reshape(self.order.num_parts, -1), axis=-1)
            for part in self.parts:
                if place >= start:
                    yield Part([Reading(parts[part], view, epoch)])
                place += 1

    def _batches(self, epoch: int, view: int) -> Iterator[Int[np.ndarray, " batch"] | None]:
        """The samples of each global batch of an epoch of windows; None while the next window is waited for."""
        order, plan = self.order, self.arrivals.plan
        (samples,), size = order.samples, order.batch_size
        kept = min(_KEPT_SHARDS * plan.shard_size, order.num_samples // _KEPT_SHARE)
        pool, left, num_shards = samples[:0], order.num_batches, 0
        for number in itertools.count():
            while (shards := self.arrivals.window(epoch, view, number)) is None:
                yield None
            for shard in shards:
                rows = plan.rows(shard)
                first, end = np.searchsorted(samples, [rows.start, rows.stop])
                pool = np.concatenate([pool, samples[first:end]])
            pool = pool[permutation(len(pool), order.seed, epoch, _WINDOWS + number)]
            num_shards += len(shards)
            if is_last := num_shards == plan.num_shards:
                count = left
            else:  # the last batch waits for all shards, for validation may read any
                count = max(0, min((len(pool) - kept) // size, left - 1))
            yield from pool[: count * size].reshape(count, size)
            pool, left = pool[count * size :], left - count
            if is_last:
                return


class Finish(Callback):
    """The extraction is whole before the run sums up what it read."""

    def __init__(self, extraction: Extraction) -> None:
        self.extraction = extraction

    def on_train_end(self, *_: object) -> None:
        """Wait for what no epoch read."""
        if not self.extraction.ended():
            print("distill: every step is done; the extraction goes on to its end", flush=True)
        self.extraction.finish()


def take_arrivals(data: CacheData, extraction: Extraction, run_dir: Path, num_devices: int) -> None:
    """The epochs of `data` take shards as the extraction commits them, and as the run in `run_dir` took them before.

    Where an order cannot follow the commits, the extraction is whole first.
    """
    path, promises, (component, *others) = run_dir / ARRIVALS, extraction.promises, data.training.components
    if (several := data.recipe.views_a_batch) > 1 and (promises.viewsets or path.exists()):
        why = "takes each view as it is committed: extract all of them first"
        raise BadInput(f"--read views_a_batch={several}: --on_missing {why}, or leave it out")
    if promises.viewsets and (reason := _must_wait(data, num_devices)):
        print(f"distill: the extraction ends first: {reason}", flush=True)
        extraction.finish()
    elif not promises.viewsets and (others or not path.exists()):
        return

    def ended() -> bool:
        if data.trainer is not None and data.trainer.received_sigterm:
            raise SIGTERMException
        return extraction.ended()

    data.batches = partial(ArrivingBatches, arrivals=Arrivals(component, path, ended))


def _must_wait(data: CacheData, num_devices: int) -> str:
    """Why training cannot begin before the last shard is there; empty where it can."""
    if num_devices > 1:
        return "several devices read whole sets alone"
    if data.banks:
        return "the recipe's bank is drawn from all samples"
    max_steps, held_out = data.recipe.max_steps, data.splits[0] is None and len(data.validation_samples[0])
    if held_out and max_steps and max_steps < data.order(data.recipe.accumulate).num_batches:
        return "validation samples are held out of all shards, and the run is shorter than an epoch"
    return ""
