"""Processes: one a device, each with its share of the shards; what they write does not depend on their number."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from shards.command.children import ended_from_outside, is_from_outside
from shards.command.run import starting_children
from shards.errors import BadInput

if TYPE_CHECKING:
    import torch

    from extract.pipeline import Counts

PROCESS = "TEACHER_SHARDS_EXTRACT_PROCESS"
"""Set in a child process: RANK/NUM_PROCESSES."""
MAX_COMPUTE_THREADS = 16
"""Batches that a CPU computes at a time: every one holds its activations in memory."""


def this_process() -> tuple[int, int] | None:
    """(rank, number of processes) in a child of `run_processes`; None in the command that the user typed.

    BadInput where there is no such rank.
    """
    rank, _, num_processes = (text := os.environ.get(PROCESS, "")).partition("/")
    if not text:
        return None
    if not (rank.isdecimal() and num_processes.isdecimal()):
        raise BadInput(f"{PROCESS}={text}: expected RANK/NUM_PROCESSES; extract sets it itself: unset it")
    check_rank(f"{PROCESS}={text}", int(rank), int(num_processes))
    return int(rank), int(num_processes)


def check_rank(where: str, rank: int, world: int) -> None:
    """Raises BadInput where there is no process `rank` among `world`."""
    if not 0 <= rank < world:
        raise BadInput(f"{where}: rank {rank} of {world}: expected 0 to {world - 1}; start {world} with these numbers")


def device_of(kind: str, index: int) -> "torch.device":
    """The CPU or the GPU `index`, set to compute the same bits on any machine that has one like it.

    On a CPU torch's kernels get one thread each (see `Extraction.each`), on a GPU cuDNN's deterministic ones are taken.
    """
    import torch

    if kind == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.cuda.set_device(index)  # else pinned memory asks the first GPU for room
        return torch.device("cuda", index)
    torch.set_num_threads(1)
    return torch.device("cpu")


def run_processes(arguments: list[str], num_processes: int, lock: int) -> tuple["Counts", list[int]]:
    """The same command in `num_processes` children; their counts added up, and the files and bytes that they sent.

    The children end with this process, and share the descriptor `lock`: it is free when nobody writes any more.

    BadInput, the first child's own line, when the user's mistake ended one, or a full disk, and where one was killed;
    RuntimeError when anything else ended it.
    """
    from extract.pipeline import Counts

    command = [sys.executable, "-m", "extract", *arguments]
    children: list[subprocess.Popen[bytes]] = []
    try:
        with starting_children():
            for rank in range(num_processes):
                environment = {**os.environ, PROCESS: f"{rank}/{num_processes}"}
                children.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, pass_fds=(lock,)))
        printed = [child.communicate()[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    if failed := [child.returncode for child in children if child.returncode]:
        mistakes = [json.loads(text.splitlines()[-1])["mistake"] for text in printed if b'"mistake"' in text]
        if mistakes and all(status == 2 or is_from_outside(status) for status in failed):
            raise BadInput(mistakes[0])
        if all(map(is_from_outside, failed)):
            raise BadInput(ended_from_outside(failed, num_processes, "what was committed"))
        raise RuntimeError(
            f"processes ended with status {failed}; what was committed is kept, the same command resumes"
        )
    counts = [json.loads(text.splitlines()[-1]) for text in printed]
    sent = [sum(numbers) for numbers in zip(*(count["sent"] for count in counts), strict=True)]
    return Counts(**{name: sum(count[name] for count in counts) for name in asdict(Counts())}), sent
