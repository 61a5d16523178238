"""Memory: the largest batches of a teacher that fit into --max_memory, counted before the work begins."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from extract.pipeline import forward
from extract.stages import BATCHES_IN_FLIGHT
from shards.bill.live_bytes import LiveBytes
from shards.command.progress import human_bytes
from shards.command.sizes import parse_bytes
from shards.errors import BadInput

if TYPE_CHECKING:
    from extract.config import ExtractConfig
    from extract.plan_targets import Part
    from extract.teachers.base import Teacher

_COUNTED = (1, 3)
"""Samples of the two forwards whose live bytes tell those of any other number."""


def parse_cap(max_memory: str) -> int:
    """The bytes of --max_memory; BadInput where it is no size."""
    return parse_bytes(f"--max_memory {max_memory}", max_memory, "--max_memory 24GB")


def cap_device(cap: int, device: torch.device) -> None:
    """A GPU gives this process no more than `cap` bytes; a CPU is not capped."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap / total), device)


def batch_within(
    config: "ExtractConfig", parts: Sequence["Part"], device: torch.device, num_threads: int, speaks: bool
) -> int:
    """--batch_size, or the largest one below it that --max_memory has room for; said where it `speaks`.

    Rows of another batch size differ by rounding, as those of another --batch_size do. BadInput where not even a batch
    of one fits.
    """
    if config.max_memory is None:
        return config.batch_size
    cap, working = parse_cap(config.max_memory), [part for part in parts if part.teacher and part.targets]
    cap_device(cap, device)
    if not working:
        return config.batch_size
    teachers = [part.teacher.only([job.target for job in part.targets]) for part in working if part.teacher]
    weights = sum(rows.nbytes for teacher in teachers for rows in _held(teacher))
    per_batch = [_growth(teacher, device, config.precision) for teacher in teachers]
    # on a GPU kernels of one batch compute while the others' rows wait, which are counted as if they did, too
    at_a_time = BATCHES_IN_FLIGHT if device.type == "cuda" else num_threads

    def taken(size: int) -> float:
        return weights + at_a_time * max(fixed + size * each for fixed, each in per_batch)

    if taken(1) > cap:
        least, batches = human_bytes(taken(1)), f"{at_a_time} at a time" if at_a_time > 1 else "one at a time"
        raise BadInput(
            f"--max_memory {config.max_memory}: the teacher takes {human_bytes(weights)} and batches of one sample, "
            f"{batches}, make it {least}; give more than that, a smaller teacher or fewer cores (LOKY_MAX_CPU_COUNT=1)"
        )
    size = max(size for size in range(1, config.batch_size + 1) if taken(size) <= cap)
    if speaks:
        instead = (
            ""
            if size == config.batch_size
            else f" instead of {config.batch_size} ({human_bytes(taken(config.batch_size))})"
        )
        fit = f"batches of {size}{instead}, {at_a_time} at a time"
        print(f"extract: --max_memory {config.max_memory}: {fit}: {human_bytes(taken(size))} with the teacher, counted")
    return size


def _held(teacher: "Teacher") -> list[Tensor]:
    return [*teacher.network.parameters(), *teacher.network.buffers()]


def _growth(teacher: "Teacher", device: torch.device, precision: str) -> tuple[float, float]:
    """Bytes that a forward takes beside the weights whatever the batch, and those of each sample."""
    few, more = (_peak(teacher, device, precision, count) for count in _COUNTED)
    each = max(0.0, (more - few) / (_COUNTED[1] - _COUNTED[0]))
    return max(0.0, few - _COUNTED[0] * each), each


def _peak(teacher: "Teacher", device: torch.device, precision: str, count: int) -> int:
    """Most bytes that were live at a time in a forward of so many samples, fields and outputs among them."""
    example = teacher.inputs.example()
    fields: Mapping[str, Tensor] = {name: rows.repeat(count, *[1] * (rows.ndim - 1)) for name, rows in example.items()}
    work = partial(forward, teacher, fields, device, precision)
    with LiveBytes() as live:
        live.count(fields.values())
        outputs = work()
        live.count(rows.float() for rows in outputs.values())
    return live.peak
