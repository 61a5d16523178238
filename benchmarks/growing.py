"""Growing: do rate and memory stay as they are while a corpus grows a hundredfold?

A corpus of random words becomes 10,000, 100,000 and 1,000,000 blocks of 32 tokens; a tiny encoder says 32 bytes of each
(pooled, float16), and a student of one block learns one epoch of it in batches of 256. Each is a command in a process
of its own. A rate is that of the blocks which a size has more than the one before, so that start-up counts nowhere;
memory is the most that was resident, mapped files included.
Limit: the rate and the memory at the smallest size, and 2 GB.
"""

import argparse
import os
import subprocess
import sys
import time
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
    costs: dict[str, list[tuple[int, float, int]]] = {"extract": [], "distill": []}
    for blocks in settings["blocks"]:
        here = folder / str(blocks)
        here.mkdir()
        with (here / "train.txt").open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in random_lines(words, blocks * (BLOCK - 2)))
        flags = ("--teacher", f"hf:{folder / 'encoder'}", "--data", f"text:{here}", "--view", f"blocks:size={BLOCK}")
        targets = ("--target", "pooled", "--codec", "float16", "--out", here / "cache")
        costs["extract"].append((blocks, *_cost("extract", *flags, *targets)))
        recipe = ("--recipe", "features", "--student", "encoder:depth=1", "--init", "random", "--epochs", 1)
        batches = ("--batch_size", settings["batch_size"], "--run_dir", here / "run")
        costs["distill"].append((blocks, *_cost("distill", "--shards", here / "cache", *recipe, *batches)))
    for name, of_sizes in costs.items():
        _add(report, name, of_sizes)
    return report


def _cost(module: str, *flags: object) -> tuple[float, int]:
    """Seconds, and the most bytes that were resident, of a command in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", module, *map(str, flags)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BadInput(f"{module}: ended with {process.returncode}; what it wrote says why")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def _add(report: Report, name: str, costs: list[tuple[int, float, int]]) -> None:
    """Each size's rate, and how the rate of what it has more and the memory compare."""
    report.add_rates({f"{name}, {blocks:,} blocks": [seconds / blocks] for blocks, seconds, _ in costs})
    rates = [(more - fewer) / (after - before) for (fewer, before, _), (more, after, _) in pairwise(costs)]
    sizes = " to ".join(f"{blocks:,}" for blocks in (costs[0][0], costs[-1][0]))
    figures = {
        f"{name}: the last rate over the first, {sizes} blocks": (rates[-1] / rates[0], FLAT),
        f"{name}: the first memory over the last, {sizes} blocks": (costs[0][2] / costs[-1][2], FLAT),
        f"{name}: 2 GB over the memory of {costs[-1][0]:,} blocks": (LIMIT_BYTES / costs[-1][2], 1.0),
    }
    memory = ", ".join(f"{size / 1e6:,.0f} MB" for _, _, size in costs)
    for compared, (ratio, goal) in figures.items():
        limit = memory if "memory" in compared else ", ".join(f"{rate:,.0f} blocks/s" for rate in rates)
        report.figures.append(Figure(compared, limit, Spread.of([ratio]), goal))


if __name__ == "__main__":
    run(measure, "growing")
