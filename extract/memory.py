"""Memory: the largest batches of a teacher that fit into --max_memory, counted before the work begins."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from extract.pipeline import CODEC_ERROR_SAMPLES, Extraction
from extract.plan_targets import Part, TargetSetJob
from extract.processes import MAX_COMPUTE_THREADS
from extract.stages import BATCHES_IN_FLIGHT
from extract.views import ViewShard
from shards.bill.live_bytes import LiveBytes
from shards.command.devices import total_memory
from shards.command.progress import human_bytes
from shards.command.sizes import parse_bytes
from shards.errors import BadInput
from shards.views.base import Row

if TYPE_CHECKING:
    from extract.config import ExtractConfig
    from extract.modalities.base import InputSpec

_COUNTED = (1, 3)
"""Samples of the two batches whose live bytes tell those of any other number."""
Growth = tuple[float, float]
"""Bytes that a batch takes beside the weights whatever its size, and those of each sample."""


def parse_cap(max_memory: str) -> int:
    """The bytes of --max_memory; BadInput where it is no size."""
    return parse_bytes(f"--max_memory {max_memory}", max_memory, "--max_memory 24GB")


def what_to_lower(config: "ExtractConfig") -> str:
    """What helps where the device's memory is used up all the same."""
    lower = f"give --batch_size below {config.batch_size}, or --max_memory 24GB, which picks one"
    if config.max_memory is not None:
        lower = f"kernels take more than is counted: give --max_memory below {config.max_memory}, or a --batch_size"
    return f"{lower}; what was committed is kept, and the same command resumes"


def cap_device(cap: int, device: torch.device) -> None:
    """A GPU gives this process no more than `cap` bytes; a CPU is not capped."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap / total_memory(device)), device)


def batches_within(
    config: "ExtractConfig", parts: Sequence[Part], device: torch.device, num_threads: int, speaks: bool
) -> tuple[int, int]:
    """The batch size, --batch_size at most, and how many of `num_threads` compute a batch each, within --max_memory.

    Rows of another batch size differ by rounding. So the size does not depend on the machine's cores: it is the largest
    of which as many batches fit as any CPU computes at a time, else 1; where cores are left over they wait. It is said
    where this process `speaks`. BadInput where not even one batch of one sample fits.
    """
    if device.type == "cuda":
        return batch_within(config, parts, device, BATCHES_IN_FLIGHT, speaks), num_threads
    return _fitting(config, parts, device, MAX_COMPUTE_THREADS, 1, num_threads, speaks)


def batch_within(
    config: "ExtractConfig", parts: Sequence[Part], device: torch.device, at_a_time: int, speaks: bool
) -> int:
    """The largest batch, of --batch_size at most, of which so many fit into --max_memory; BadInput where none does."""
    return _fitting(config, parts, device, at_a_time, at_a_time, at_a_time, speaks)[0]


def _fitting(
    config: "ExtractConfig",
    parts: Sequence[Part],
    device: torch.device,
    most: int,
    least: int,
    num_threads: int,
    speaks: bool,
) -> tuple[int, int]:
    """The size of which `most` batches fit, else 1; and how many of it at a time, `least` to `num_threads`."""
    working = [part for part in parts if part.teacher and part.targets]
    if config.max_memory is None:
        return config.batch_size, num_threads
    cap = parse_cap(config.max_memory)
    cap_device(cap, device)
    if not working:
        return config.batch_size, num_threads
    # of each whole network: what its targets do not need is on the device, too
    weights = sum(rows.nbytes for part in working if part.teacher for rows in _held(part.teacher.network))
    growths = [growths_of(part, device, config.precision) for part in working]

    def taken(size: int, at_a_time: int) -> float:
        return weights + at_a_time * max(batch_bytes(growth, size) for growth in growths)

    if taken(1, least) > cap:
        batches = f"{least} at a time, " if least > 1 else ""
        raise BadInput(
            f"--max_memory {config.max_memory}: the teacher takes {human_bytes(weights)} and batches of one sample, "
            f"{batches}make it {human_bytes(taken(1, least))}; give more than that, or a smaller teacher"
        )
    size = max((size for size in range(1, config.batch_size + 1) if taken(size, most) <= cap), default=1)
    here = max(number for number in range(least, num_threads + 1) if number == least or taken(size, number) <= cap)
    if speaks:
        whole = human_bytes(taken(config.batch_size, most))
        instead = "" if size == config.batch_size else f" instead of {config.batch_size} ({whole}, {most} at a time)"
        fit = f"batches of {size}{instead}, here {here} at a time"
        counted = f"{human_bytes(taken(size, here))} with the teacher, counted"
        print(f"extract: --max_memory {config.max_memory}: {fit}: {counted}")
    return size, here


def batch_bytes(growths: tuple[Growth, Growth], size: int) -> float:
    """Bytes that are live at most while a batch of `size` samples is computed, beside the weights."""
    (fixed, each), (first_fixed, first_each) = growths
    return max(fixed + size * each, first_fixed + min(size, CODEC_ERROR_SAMPLES) * first_each)


def growths_of(part: Part, device: torch.device, precision: str) -> tuple[Growth, Growth]:
    """Of a batch of the part from its fields to its encoded rows, and of the first, which tells the codecs' error."""
    later, first = (
        [_peak(part, device, precision, count, is_first) for count in _COUNTED] for is_first in (False, True)
    )
    return _line(later), _line(first)


def _line(peaks: list[int]) -> Growth:
    (few, more), (first, second) = _COUNTED, peaks
    each = max(0.0, (second - first) / (more - few))
    return max(0.0, first - few * each), each


def _held(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _peak(part: Part, device: torch.device, precision: str, count: int, is_first: bool) -> int:
    """Most bytes that were live at a time in a batch of so many samples, its fields among them."""
    assert part.teacher is not None
    teacher = part.teacher.only([job.target for job in part.targets])
    jobs = [_ready(job) for job in part.targets]
    part = replace(part, teacher=replace(teacher, network=_Noise(teacher.network)), targets=jobs)
    keys = [f"sample {number}" for number in range(count)]
    shard = ViewShard(0 if is_first else 1, 0, keys, largest_fields(teacher.inputs, count))
    extraction = Extraction([part], device, precision, count, 1, skip_errors=False)
    fields = [torch.from_numpy(rows) for rows in shard.fields.values()]
    with LiveBytes() as live:
        live.count(fields)
        extraction.encode(shard, part, list(range(count)))
    return live.peak


def largest_fields(inputs: "InputSpec", count: int) -> Row:
    """Fields of so many samples, of which no network computes more: texts have the most tokens that they may have.

    All but the first are a token shorter: masks of texts without padding need not be made.
    """
    fields = {name: np.repeat(rows.numpy(), count, axis=0) for name, rows in inputs.example().items()}
    if "length" in fields:
        size = fields["tokens"].shape[-1]
        fields["length"][...] = size - 1
        fields["length"].flat[0] = size
    return fields


def _ready(job: TargetSetJob) -> TargetSetJob:
    """The job, its codec with statistics of any rows, where it needs some to encode."""
    rows = torch.randn(2, *job.row_shape)
    return replace(job, codec=job.codec.calibrate(rows)) if job.codec.has_statistics else job


class _Noise(nn.Module):
    """Computes what the network does, and gives finite rows whatever that says of made-up samples."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arguments: Tensor) -> dict[str, Tensor]:
        """Of the shapes and types of the network's outputs."""
        outputs = self.network(*arguments)
        return {name: torch.randn_like(rows) if rows.is_floating_point() else rows for name, rows in outputs.items()}
