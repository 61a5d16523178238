"""Launch: one process a device, each with its share of the shards; what they write does not depend on their number."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from shards.errors import BadInput

if TYPE_CHECKING:
    import torch

    from extract.pipeline import Counts

PROCESS = "TEACHER_SHARDS_EXTRACT_PROCESS"
"""Set in a child process: RANK/NUM_PROCESSES."""


def this_process() -> tuple[int, int] | None:
    """(rank, number of processes) in a child of `run_processes`; None in the command that the user typed."""
    rank, _, num_processes = os.environ.get(PROCESS, "").partition("/")
    return (int(rank), int(num_processes)) if num_processes else None


def parse_devices(devices: str) -> tuple[str, int]:
    """The device type and the number of processes that --devices asks for."""
    import torch

    gpus = torch.cuda.device_count()
    if devices in ("cuda", "auto") and gpus:
        return "cuda", gpus
    if devices in ("cpu", "auto"):
        return "cpu", 1
    if devices.isdecimal() and int(devices) >= 1:
        count = int(devices)
        if gpus and count > gpus:
            raise BadInput(f"--devices {count}: this machine has {gpus} GPUs")
        return ("cuda" if gpus else "cpu"), count
    raise BadInput(f"--devices {devices!r}: expected auto, cpu, cuda (this machine has {gpus} GPUs) or a number")


def device_of(kind: str, rank: int, num_processes: int) -> "torch.device":
    """This process's device; on a CPU, its share of the cores."""
    import torch

    if kind == "cuda":
        torch.backends.cudnn.deterministic = True
        return torch.device("cuda", rank)
    if num_processes > 1:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // num_processes))
    return torch.device("cpu")


def run_processes(arguments: list[str], num_processes: int) -> "Counts":
    """The same command in `num_processes` children; their counts added up. BadInput when one fails (it said why)."""
    from extract.pipeline import Counts

    command = [sys.executable, "-m", "extract", *arguments]
    children = [
        subprocess.Popen(command, env={**os.environ, PROCESS: f"{rank}/{num_processes}"}, stdout=subprocess.PIPE)
        for rank in range(num_processes)
    ]
    try:
        printed = [child.communicate()[0] for child in children]
    finally:
        for child in children:
            child.kill()
    if any(child.returncode for child in children):
        raise BadInput("a process failed (its message is above); what was committed is kept, the same command resumes")
    counts = [json.loads(text.splitlines()[-1]) for text in printed]
    return Counts(**{name: sum(count[name] for count in counts) for name in asdict(Counts())})
