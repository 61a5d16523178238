"""Growing: do rate and memory stay as they are while a corpus grows a hundredfold?

A corpus of random words becomes 10,000, 100,000 and 1,000,000 blocks of 32 tokens; a tiny encoder says 32 bytes of each
(pooled, float16), and a student of one block learns one epoch of it in batches of 256. Each is a command in a process
of its own. Compared is the CPU time of the blocks that a size has more than the one before, so that neither start-up
nor a machine's other work counts; memory is the most that was resident, mapped files included.
Limit: the time and the memory at the smallest sizes, and 2 GB.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.measure import Figure, Report, Spread, run, settings_here
from benchmarks.synthetic_texts import random_lines, random_words, write_text_encoder
from shards.errors import BadInput

BLOCK, LIMIT_BYTES = 32, 2e9
SHAPE = {"width": 16, "depth": 2, "positions": BLOCK}
SIZES = {
    "cpu": {"blocks": (10_000, 100_000, 1_000_000), "batch_size": 256},
    "cuda": {"blocks": (10_000, 100_000, 1_000_000), "batch_size": 256},
    "quick": {"blocks": (40, 80, 160), "batch_size": 16},
}
FLAT = 0.9


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """`extract` and `distill` at each size, once."""
    settings = settings_here(SIZES, options)
    words = random_words(2000)
    write_text_encoder(folder / "encoder", words, **SHAPE)
    report = Report("does the size of a corpus change rate or memory?", "blocks", settings | SHAPE)
    costs: dict[str, list[Cost]] = {"extract": [], "distill": []}
    for blocks in settings["blocks"]:
        here = folder / str(blocks)
        here.mkdir()
        with (here / "train.txt").open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in random_lines(words, blocks * (BLOCK - 2)))
        flags = ("--teacher", f"hf:{folder / 'encoder'}", "--data", f"text:{here}", "--view", f"blocks:size={BLOCK}")
        targets = ("--target", "pooled", "--codec", "float16", "--out", here / "cache")
        costs["extract"].append(_cost(blocks, "extract", *flags, *targets))
        recipe = ("--recipe", "features", "--student", "encoder:depth=1", "--init", "random", "--epochs", 1)
        batches = ("--batch_size", settings["batch_size"], "--run_dir", here / "run")
        costs["distill"].append(_cost(blocks, "distill", "--shards", here / "cache", *recipe, *batches))
    for name, of_sizes in costs.items():
        _add(report, name, of_sizes)
    return report


@dataclass(frozen=True)
class Cost:
    """What a command took for so many blocks."""

    blocks: int
    seconds: float
    cpu_seconds: float
    resident: int
    """Bytes, at most."""


def _cost(blocks: int, module: str, *flags: object) -> Cost:
    """What the command took in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", module, *map(str, flags)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BadInput(f"{module}: ended with {process.returncode}; what it wrote says why")
    seconds = time.perf_counter() - start
    return Cost(blocks, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _add(report: Report, name: str, costs: list[Cost]) -> None:
    """Each size's rate, and how the CPU time of what it has more and the memory compare."""
    report.add_rates({f"{name}, {cost.blocks:,} blocks": [cost.seconds / cost.blocks] for cost in costs})
    times = [(more.cpu_seconds - fewer.cpu_seconds) / (more.blocks - fewer.blocks) for fewer, more in pairwise(costs)]
    first, last = costs[0], costs[-1]
    memory = ", ".join(f"{cost.resident / 1e6:,.0f} MB" for cost in costs)
    times_shown = ", ".join(f"{1e6 * seconds:,.0f} us" for seconds in times)
    sizes = f"{first.blocks:,} to {last.blocks:,} blocks"
    for compared, limit, ratio, goal in (
        (f"{name}: the first CPU time a block over the last, {sizes}", times_shown, times[0] / times[-1], FLAT),
        (f"{name}: the first memory over the last, {sizes}", memory, first.resident / last.resident, FLAT),
        (f"{name}: 2 GB over the memory of {last.blocks:,} blocks", memory, LIMIT_BYTES / last.resident, 1.0),
    ):
        report.figures.append(Figure(compared, limit, Spread.of([ratio]), goal))


if __name__ == "__main__":
    run(measure, "growing")
