"""Teachers: what a forward of a run's teachers takes on this device, which a run with them in the loop pays again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distill.data import CacheData
from extract.bill.alternatives import Alternative, Sampled, offered
from extract.bill.further import ViewSeconds, probe_further, timed_rows
from extract.named_teachers import how_to_name
from extract.pipeline import forward
from extract.recompute import load_teacher_of
from shards.bill.counting import Growth, count
from shards.errors import TeacherShardsError
from shards.loader import Batch
from shards.reader import ViewSet


@dataclass
class LiveProbe:
    """The teachers on this device."""

    seconds: float
    """Of a sample, all of them together."""
    growth: list[Growth]
    """Kernels and memory of each by the number of samples."""
    offers: list[Alternative] = field(default_factory=list)
    """What else the first of them might give of the views."""
    views: ViewSeconds = field(default_factory=lambda: ViewSeconds(0.0, None))
    """Of the first of them, of the first component."""
    unknown: str = ""
    """Why a teacher cannot be asked."""


def probe_teachers(data: CacheData, batch: Batch, device: torch.device, trial: Path, seconds: float) -> LiveProbe:
    """The forward of each distinct teacher on a held batch; a teacher that is not here is a reason and no error.

    Further views for the first of them are made in `trial`.
    """
    taken, growths, offers, views = 0.0, [], list[Alternative](), ViewSeconds(0.0, None)
    by_teacher: dict[str, list[Any]] = {}
    for targetset in data.training.targetsets:
        by_teacher.setdefault(str(targetset.identity["teacher"]), []).append(targetset)
    for sets in by_teacher.values():
        try:
            teacher = load_teacher_of(sets[0], None, None, how_to_name(sets[0].folder))
        except TeacherShardsError as error:
            return LiveProbe(0.0, [], unknown=str(error))
        whole, teacher = teacher, teacher.only([each.manifest.target for each in sets])
        teacher.network.to(device)
        reading = batch.readings[0]
        viewset = ViewSet(data.training.components[reading.component].viewset.folder)  # as no student reads it
        viewset = viewset.read_by(teacher.inputs.reads(viewset.codec))
        samples = reading.samples.tolist()
        rows, read = timed_rows(viewset, samples)
        fields = {name: torch.from_numpy(each).to(device) for name, each in rows.items()}
        say = partial(forward, teacher, device=device, precision=sets[0].identity["precision"])
        taken += _rate(say, fields, device, seconds / len(by_teacher))
        held = [*teacher.network.parameters(), *teacher.network.buffers()]
        counted = [
            count(partial(say, few := _first(fields, number)), [*held, *few.values()], number) for number in (1, 2)
        ]
        growths.append(Growth(*counted))
        if not offers:
            first = ViewSet(data.training.components[0].viewset.folder)
            views = probe_further(first, teacher.inputs, read, trial, seconds / 4)
            keys, seed = [viewset.plan.keys[sample] for sample in samples], viewset.identity["seed"] or 0
            sampled = Sampled(fields, keys, 0, seed, device, sets[0].identity["precision"])
            asked = [(each.manifest.target, each.manifest.codec, each.manifest.keep_tokens) for each in sets]
            offers = list(offered(whole, sampled, asked, viewset.plan, seconds / 4))
    return LiveProbe(taken, growths, offers, views)


def _first(fields: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """So many rows, the first ones again where there are fewer."""
    return {name: rows[torch.arange(number) % len(rows)] for name, rows in fields.items()}


def _rate(say: Any, fields: dict[str, torch.Tensor], device: torch.device, seconds: float) -> float:
    """Seconds of a sample, in batches that grow up to all of `fields` while there is time."""
    most, size = len(next(iter(fields.values()))), 1
    say(_first(fields, 1))
    begun = time.perf_counter()
    while True:
        some = _first(fields, size)
        with _finished(device):
            start = time.perf_counter()
            say(some)
        taken = time.perf_counter() - start
        if size == most or time.perf_counter() - begun + 2.5 * taken > seconds:
            return taken / size
        size = min(2 * size, most)


@contextmanager
def _finished(device: torch.device) -> Iterator[None]:
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
