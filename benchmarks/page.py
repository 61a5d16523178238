"""Page: how long does the page of a large cache take, and how large is it?

A cache of 2,400 shards and 300,000 samples, JPEGs of 64 pixels and logits in float16, and 20 runs from it that logged
1,200 steps each. `python -m shards page` makes the page in a process of its own, imports included, the page cache warm.
Limit: 10 seconds, and 5 MB.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import CLOCK, Figure, Report, Spread, run
from benchmarks.synthetic import write_many_views, write_targets
from shards.documents import read_targetset_manifest, read_viewset_manifest
from shards.identity import identity_hash

SIZES = {"num_samples": 300_000, "shard_size": 125, "image_size": 64, "num_runs": 20, "num_logged": 1200}
QUICK_SIZES = {"num_samples": 60, "shard_size": 5, "image_size": 16, "num_runs": 2, "num_logged": 5}
LIMIT_S, LIMIT_BYTES = 10.0, 5e6
STUDENT = {"weights": {"sha256": "ab"}}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """The same page, made by a fresh process in each round."""
    sizes = QUICK_SIZES if options.quick else SIZES
    views = write_many_views(folder / "cache", sizes["num_samples"], sizes["shard_size"], sizes["image_size"])
    targets, _ = write_targets(views, "logits", "float16")
    for number in range(sizes["num_runs"]):
        write_run(folder / "runs" / f"run-{number:02d}", views.folder, targets, sizes["num_logged"], number)
    made = [_page(folder) for _ in range(options.rounds + 1)][1:]
    report = Report("how long does the page of a large cache take?", "pages", sizes)
    report.add_rates({"page": made})
    size = (folder / "page.html").stat().st_size
    in_time, in_bytes = Spread.of(LIMIT_S / seconds for seconds in made), Spread.of([LIMIT_BYTES / size])
    report.figures.append(Figure("10 s over the page's time", f"{np.median(made):.2f} s", in_time, 1.0))
    report.figures.append(Figure("5 MB over the page's bytes", f"{size / 1e6:.2f} MB", in_bytes, 1.0))
    return report


def _page(folder: Path) -> float:
    """The seconds that one page took; with --cpu_time those that its process computed."""
    command = [sys.executable, "-m", "shards", "page", folder / "cache", "--runs", folder / "runs"]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--output", folder / "page.html"], check=True, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if CLOCK.cpu:
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start


def write_run(run_dir: Path, viewset: Path, targetset: Path, num_logged: int, seed: int) -> None:
    """A finished run as `distill` leaves one, of which the page reads the documents and the log."""
    cache = {
        "viewset": identity_hash(read_viewset_manifest(viewset).identity),
        "targetsets": [identity_hash(read_targetset_manifest(targetset).identity)],
    }
    recipe = {"name": "logits", "student": "resnet18", "batch_size": 256}
    summary = {"recipe": "logits", "student": "resnet18", "num_parameters": 11_689_512, "seconds": 3600.0 + seed}
    summary |= {"steps": 10 * num_logged, "teacher_forwards": 0, "best_val_loss": 1.0 + seed / 100}
    summary |= {"cache": str(viewset.parent), "viewset": viewset.name}
    record = {"top1": 0.7 + seed / 1000, "num_samples": 50_000, "weights_sha256": STUDENT["weights"]["sha256"]}
    documents = {
        "run.json": {"recipe": recipe, "cache": cache, "validation": None, "weights": [1.0], "num_views": 1},
        "summary.json": summary,
        "student.json": STUDENT,
        "evaluation.json": {"accuracy": record},
    }
    (run_dir / "logs/version_0").mkdir(parents=True)
    for name, document in documents.items():
        (run_dir / name).write_text(json.dumps(document))
    for name in ("config.yaml", "student.safetensors"):
        (run_dir / name).write_text("")
    noise = np.random.default_rng(seed).normal(0, 0.05, num_logged)
    losses = 5 / np.sqrt(1 + np.arange(num_logged)) + 1 + np.abs(noise)
    lines = [f"{step // 400},{10 * step + 9},{loss:.6f},," for step, loss in enumerate(losses)]
    lines += [
        f"{epoch},{10 * step + 9},,{losses[step]:.6f},{1 - losses[step] / 10:.6f}"
        for epoch, step in enumerate(range(0, num_logged, 120))
    ]
    (run_dir / "logs/version_0/metrics.csv").write_text(
        "epoch,step,train_loss,val_loss,val_agreement\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    run(measure, "page")
