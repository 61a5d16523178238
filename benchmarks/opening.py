"""Opening: how long does a training wait for its first batch, and how much memory does a large cache take?

A cache of 2,400 shards and 300,000 samples, JPEGs of 64 pixels and logits in float16, is opened by a process of its own
as `distill` opens it: documents read and checked, the order drawn, and the shards of a shuffled batch of 256 verified
(almost as many shards as samples), decoded and gathered. The page cache is warm, imports are not counted.
Limit: 3 seconds, and 1 GB of memory of the process's own, the imported libraries' included; mapped files are not.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Figure, Report, Spread, run
from benchmarks.synthetic import write_many_views, write_targets

SIZES = {"num_samples": 300_000, "shard_size": 125, "image_size": 64, "batch_size": 256}
QUICK_SIZES = {"num_samples": 60, "shard_size": 5, "image_size": 16, "batch_size": 16}
LIMIT_S, LIMIT_BYTES = 3.0, 1e9


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """The same cache, opened by a fresh process in each round."""
    cache, sizes = many_shards(folder / "cache", options.quick)
    opened = [in_a_fresh_process(cache, sizes["batch_size"]) for _ in range(options.rounds + 1)][1:]
    seconds, memory = ([one[name] for one in opened] for name in ("seconds", "bytes"))
    report = Report("how soon does a large cache give its first batch?", "openings", sizes)
    report.add_rates({"first batch": seconds})
    took, kept = np.median(seconds), np.median(memory)
    in_time, in_memory = (Spread.of(limit / x for x in of) for limit, of in ((LIMIT_S, seconds), (LIMIT_BYTES, memory)))
    report.figures.append(Figure("3 s over the time to the first batch", f"{took:.2f} s", in_time, 1.0))
    report.figures.append(Figure("1 GB over the process's own memory", f"{kept / 1e6:,.0f} MB", in_memory, 1.0))
    return report


def many_shards(cache: Path, quick: bool) -> tuple[Path, dict[str, int]]:
    """A cache of 2,400 shards, and its sizes."""
    sizes = QUICK_SIZES if quick else SIZES
    views = write_many_views(cache, sizes["num_samples"], sizes["shard_size"], sizes["image_size"])
    write_targets(views, "logits", "float16")
    return cache, sizes


def in_a_fresh_process(cache: Path, batch_size: int) -> dict[str, float]:
    """Seconds until its first batch, and bytes of memory then."""
    code = "import sys; from benchmarks.opening import first_batch; first_batch(sys.argv[1], int(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(cache), str(batch_size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    opened: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return opened


def first_batch(cache: str, batch_size: int) -> None:
    """Print the seconds until the first batch of `cache`, and the bytes that this process keeps then."""
    from distill.config import DistillConfig
    from distill.data import CacheData
    from distill.holding import open_training
    from distill.recipe import load_recipe, resolve

    config = DistillConfig(shards=cache, recipe="logits", batch_size=batch_size)
    recipe = resolve(load_recipe("logits"), config)
    start = time.perf_counter()
    batches = iter(CacheData(open_training(cache, None, False), recipe).training_batches())
    batch = next(batches)
    seconds = time.perf_counter() - start  # before the iterator ends, which waits for the batches that follow
    assert len(batch.samples) == batch_size
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"seconds": seconds, "bytes": 1024 * int(status["RssAnon"].split()[0])}))


if __name__ == "__main__":
    run(measure, "opening")
