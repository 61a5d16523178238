"""Devices: on which a command computes, and how many cores it may use; decided here for every command."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from shards.errors import BadInput, one_line

if TYPE_CHECKING:
    import torch

_MAX_PROCESSES = 64
"""On a CPU, where this machine has no more cores than that: a slip of the finger must not start a thousand."""


class Devices(NamedTuple):
    """Devices of one kind; each gets a process of its own."""

    kind: str
    """cpu or cuda."""
    indices: tuple[int, ...] = (0,)
    """Which GPUs, or which of the processes that share a CPU."""

    def of(self, rank: int) -> "torch.device":
        """The device of the process of that number."""
        import torch

        return torch.device(self.kind, self.indices[rank]) if self.kind == "cuda" else torch.device(self.kind)


def parse_devices(flag: str, text: str, several: bool = True) -> Devices:
    """The devices that --`flag` names; BadInput where it names none or this machine has none such.

    auto is every GPU, else the CPU; cuda is every GPU, cuda:N that one; N is so many GPUs, or where there is none so
    many processes on the CPU. Unless `several`, the first of them alone is taken, and N is refused.
    """
    import torch

    num_gpus = torch.cuda.device_count()
    kind = "cuda" if num_gpus else "cpu"
    most = num_gpus or max(_MAX_PROCESSES, share_of_cores())
    name, _, index = text.partition(":")
    devices = None
    if text == "cpu" or (text == "auto" and not num_gpus):
        devices = Devices("cpu")
    elif text in ("auto", "cuda") and num_gpus:
        devices = Devices("cuda", tuple(range(num_gpus if several else 1)))
    elif name == "cuda" and index.isdecimal() and int(index) < num_gpus:
        devices = Devices("cuda", (int(index),))
    elif several and text.isdecimal() and 1 <= int(text) <= most:
        devices = Devices(kind, tuple(range(int(text))))
    if devices is None:
        known = "auto, cpu, cuda, cuda:N or a number of processes" if several else "auto, cpu, cuda or cuda:N"
        raise BadInput(f"--{flag} {text}: expected {known}; torch sees {num_gpus} GPUs on this machine")
    return devices


def one_device(flag: str, text: str = "auto") -> "torch.device":
    """The only device of --`flag`: of several GPUs the first."""
    return parse_devices(flag, text, several=False).of(0)


def share_of_cores(num_processes: int = 1) -> int:
    """Cores for each of `num_processes` processes.

    Shared out are those that this machine lets us use: affinity and a container's quota count, and the environment
    variable LOKY_MAX_CPU_COUNT where it says less.
    """
    import joblib

    return max(1, joblib.cpu_count() // num_processes)


def total_memory(device: "torch.device") -> int:
    """The bytes of memory that a GPU, or for a CPU this machine, has."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory(device: "torch.device") -> float | None:
    """The bytes of a GPU that this process had allocated at most; None for a CPU, which nobody counts."""
    import torch

    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def device_type(device: "torch.device") -> str:
    """What decides the bits that a device computes: a GPU's name, a CPU's instruction set."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {torch.backends.cpu.get_cpu_capability()}"


@contextlib.contextmanager
def device_memory(remedy: str) -> Iterator[None]:
    """What asks a device for more memory than it has, in the block, is the user's to lower: BadInput with `remedy`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        asked = one_line(error).partition(" GPU ")[0].rstrip(".")  # what follows counts all that is allocated
        raise BadInput(f"{asked}; {remedy}") from None
