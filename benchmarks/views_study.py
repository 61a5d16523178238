"""Views study: how many stored views of a sample a student needs, with endless fresh ones as the limit.

Two small teachers learn real images from their labels, a CNN and a vision transformer, and speak once to 32 crops of
each of a few images. Students, a smaller CNN and a shallower transformer, learn the logits of the one and the layer
means of the other in equally many steps: from the first 1, 2, 4 ... 32 of these views, and from the teacher in the
loop, whose every pass sees new crops. Pass p reads view p mod V of V stored ones and view p of the endless ones;
samples, order and first weights are alike.

    python -m benchmarks.views_study --data parquet:FOLDER wds:FOLDER --work FOLDER [--out docs]
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fresh_views import FreshBatches, maker_of
from benchmarks.live import distil_live
from benchmarks.study import command, drawing, mean_and_range, once, parser, write_study
from benchmarks.supervised import ARCHITECTURE, as_dense, train_teacher, write_samples
from shards.command.run import run_command

VIEWS: tuple[int | None, ...] = (1, 2, 4, 8, 16, 32, None)
"""None: endless."""
STORED = 32
SPLITS = ("train", "test")
LOGITS = "logits"


@dataclass(frozen=True)
class Kind:
    """A target, its teacher, the recipe of its students, and what is measured of these: first the distance."""

    target: str
    teacher: str
    """As --student."""
    teacher_lr: float
    size: int
    """Pixels a side of a view."""
    recipe: dict[str, Any]
    metrics: tuple[str, ...]
    label: str


KINDS = (
    Kind(
        LOGITS,
        "convnet:width=16",
        4e-3,
        32,
        {"student": "convnet:width=8", "objective": "kl:temperature=2"},
        ("kl", "agreement", "top1"),
        "KL from the teacher, nats",
    ),
    Kind(
        "layer_mean",
        f"timm:{ARCHITECTURE}",
        2e-3,
        64,
        {"student": "data2vec2:depth=2,width=48,heads=3", "objective": "mse", "lr": 1e-3},
        ("distance", "knn"),
        "1 - cosine to the teacher's tokens",
    ),
)


def main(arguments: list[str] | None = None) -> None:
    """views_study.json and views_study.svg are in --out, and the table is printed, for docs/views_study.md."""
    flags = parser("views_study", "labelled sources with the splits train and test, as extract's --data", several=True)
    flags.add_argument("--samples", type=int, default=128, help="samples that students learn from")
    flags.add_argument("--teacher_samples", type=int, default=4000, help="samples that the teacher learns from")
    flags.add_argument("--held_out", type=int, default=1000, help="samples of the test split to measure on")
    flags.add_argument("--teacher_steps", type=int, default=480, help="optimiser steps of a teacher")
    flags.add_argument("--passes", type=int, default=64, help="times that a student sees each sample")
    flags.add_argument("--batch_size", type=int, default=32, help="samples an optimiser step of a student")
    flags.add_argument("--seeds", type=int, default=3, help="students of each kind")
    options = flags.parse_args(arguments)
    steps = options.passes * (options.samples // options.batch_size)
    study: dict[str, Any] = {"samples": options.samples, "batch_size": options.batch_size, "steps": steps}
    study["teachers"] = {
        name_of(data): {kind.target: _prepare(options, data, kind) for kind in KINDS} for data in options.data
    }
    study["rows"] = []
    for seed in range(options.seeds):
        for data in options.data:
            for kind in KINDS:
                for views in VIEWS:
                    study["rows"].append(_row(options, name_of(data), kind, views, seed, steps))
                    write_study(options.out, "views_study", study)
    plot(study, options.out / "views_study.svg")
    print(table(study))


def name_of(data: str) -> str:
    """The last part of a source's path."""
    return data.rstrip("/").rpartition("/")[2].rpartition(":")[2]


def _prepare(options: argparse.Namespace, data: str, kind: Kind) -> float:
    """The teacher's test accuracy; `cache` has the students' views and targets, `held_out` those to measure on."""
    folder, samples = options.work / name_of(data) / kind.target, options.work / name_of(data) / "samples"
    for split, count in zip(SPLITS, (options.teacher_samples, options.held_out), strict=True):
        if not (path := samples / f"{split}-00000.tar").exists():
            write_samples(data, split, count, path)
    drawn, view = ("--data", f"wds:{samples}"), f"crop:scale=0.3-1,size={kind.size},store=source"
    run = train_teacher(drawn[1], folder / "labels", view, kind.teacher, options.teacher_steps, kind.teacher_lr)
    dense = kind.target != LOGITS
    teacher = as_dense(run, folder / "teacher", kind.size) if dense else f"run:{run}"
    said = ("--teacher", teacher, *drawn, "--target", kind.target, "--codec", "float32")
    training = ("--limit", options.samples, "--views", STORED, "--view", view)
    command("extract", *said, "--out", folder / "cache", *training)
    # in a cache of its own, where no run finds it to choose its best step by
    command("extract", *said, "--out", folder / "held_out", "--split", "test", "--view", f"size={kind.size}")
    return float(once(folder / "teacher.json", partial(_evaluated, run, folder, "accuracy"))["accuracy"]["top1"])


def _evaluated(run: Path, folder: Path, tasks: str, *flags: object) -> dict[str, Any]:
    """What `evaluate` has measured of `run` so far, these tasks among it."""
    command("evaluate", "--run", run, "--split", "test", "--task", tasks, *(flags or ("--shards", folder / "held_out")))
    measured: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return measured


def _row(
    options: argparse.Namespace, data: str, kind: Kind, views: int | None, seed: int, steps: int
) -> dict[str, Any]:
    """What one student came to."""
    folder = options.work / data / kind.target
    run = folder / "runs" / f"{views or 'endless'}-seed{seed}"
    measured = once(run / "study.json", partial(_measured, options, folder, run, kind, views, seed, steps))
    return {"data": data, "target": kind.target, "views": views, "seed": seed, **measured}


def _measured(
    options: argparse.Namespace, folder: Path, run: Path, kind: Kind, views: int | None, seed: int, steps: int
) -> dict[str, Any]:
    recipe = folder / "recipes" / f"{views or 'endless'}.yaml"
    recipe.parent.mkdir(exist_ok=True)
    told = {"validation_fraction": 0.0} | ({"views": views} if views else {})  # the last student is measured
    recipe.write_text(yaml.safe_dump(kind.recipe | told))
    flags: tuple[object, ...] = ("--shards", folder / "cache", "--targets", kind.target, "--recipe", recipe)
    flags += ("--run_dir", run, "--seed", seed, "--max_steps", steps, "--batch_size", options.batch_size)
    start = time.process_time()
    if views:
        command("distill", *flags)
    else:
        distil_live(*flags, batches=partial(FreshBatches, views=maker_of(folder / "cache")))
    seconds = time.process_time() - start
    if kind.target == LOGITS:
        measured = _evaluated(run, folder, "fidelity,accuracy")
        said = measured["fidelity"] | {"top1": measured["accuracy"]["top1"]}
    else:
        labelled = ("--data", f"wds:{folder.parent / 'samples'}", "--limit", options.held_out)
        _evaluated(run, folder, "fidelity")
        measured = _evaluated(run, folder, "knn", *labelled)
        said = {"distance": 1 - measured["fidelity"]["cosine"], "knn": measured["knn"]["top1"]}
    return {**{name: said[name] for name in kind.metrics}, "seconds": seconds}


def rows_of(study: dict[str, Any], data: str, target: str, views: int | None) -> list[dict[str, Any]]:
    """The rows of all seeds, in their order."""
    wanted = data, target, views
    return [row for row in study["rows"] if (row["data"], row["target"], row["views"]) == wanted]


def excess(study: dict[str, Any], data: str, kind: Kind, views: int | None) -> list[float]:
    """How much further from the teacher each seed's student is than from endless views, as a share of that."""
    distance = kind.metrics[0]
    limit = {row["seed"]: row[distance] for row in rows_of(study, data, kind.target, None)}
    found = rows_of(study, data, kind.target, views)
    return [row[distance] / limit[row["seed"]] - 1 for row in found if row["seed"] in limit]


def table(study: dict[str, Any]) -> str:
    """The study in Markdown: a line for each number of views, the mean over seeds and the range."""
    lines = [
        "| data | target | views | distance from the teacher | more than with endless views | same first class | "
        "accuracy, or kNN |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in study["teachers"]:
        for kind in KINDS:
            for views in VIEWS:
                found = rows_of(study, data, kind.target, views)
                digits = dict.fromkeys(kind.metrics, 3) | {"distance": 4}
                shown = [mean_and_range([row[name] for row in found], digits[name]) for name in kind.metrics]
                more = "" if views is None else _percent(excess(study, data, kind, views))
                cells = [data, f"`{kind.target}`", str(views or "endless"), shown[0], more]
                lines.append(f"| {' | '.join([*cells, *([''] * (3 - len(shown))), *shown[1:]])} |")
    return "\n".join(lines) + "\n"


def _percent(shares: Sequence[float]) -> str:
    low, mean, high = (100 * share for share in (min(shares), statistics.mean(shares), max(shares)))
    return f"{mean:+.0f}%" if len(shares) == 1 else f"{mean:+.0f}% ({low:+.0f} to {high:+.0f})"


def plot(study: dict[str, Any], path: Path) -> None:
    """Distance from the teacher over views, a dot a run; endless views as a line, a band over their seeds."""
    stored = [views for views in VIEWS if views]
    with drawing(path) as axes:
        for axis, kind in zip(axes, KINDS, strict=True):
            for number, data in enumerate(study["teachers"]):
                colour, distance = f"C{number}", kind.metrics[0]
                found = {views: [row[distance] for row in rows_of(study, data, kind.target, views)] for views in VIEWS}
                means = [statistics.mean(found[views]) for views in stored]
                axis.plot(stored, means, "-", color=colour, label=f"{data}: stored views")
                for views in stored:
                    axis.plot([views] * len(found[views]), found[views], ".", color=colour)
                limit = found[None]
                axis.axhline(statistics.mean(limit), color=colour, linestyle="--", label=f"{data}: endless views")
                axis.axhspan(min(limit), max(limit), color=colour, alpha=0.15)
            axis.set(xscale="log", xlabel="stored views a sample", ylabel=kind.label, title=kind.target)
            axis.set_xticks(stored, [str(views) for views in stored], minor=False)
            axis.minorticks_off()
            axis.legend(fontsize=8)


if __name__ == "__main__":
    run_command(main, "benchmarks.views_study")
