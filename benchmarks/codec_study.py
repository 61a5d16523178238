"""Codec study: what a student loses when its targets are stored in fewer bytes.

One small data2vec 2.0 of seeded random weights speaks once to each view of real images; a student of half its depth,
from random weights, learns its layer means from float32, float16, int8, int4, and int8 with a quarter of the tokens,
everything else alike. All losses are against the same float32 validation targets. float32 with other seeds says what
chance does.

    python -m benchmarks.codec_study --data parquet:FOLDER [--work FOLDER] [--out docs]
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.dense import BASE, write_data2vec2
from shards.command.run import run_command
from shards.commit import write_atomically

TEACHER = dataclasses.replace(
    BASE,
    depth=6,
    average_top_k_layers=6,
    embed_dim=128,
    local_embed_dim=128,
    num_heads=4,
    num_alibi_heads=4,
    input_size=28,
    patch_size=4,
)
TOKENS = 1 + (TEACHER.input_size // TEACHER.patch_size) ** 2
VARIANTS: dict[str, tuple[str, ...]] = {
    "float32": ("--codec", "float32"),
    "float16": ("--codec", "float16"),
    "int8": ("--codec", "int8"),
    "int4": ("--codec", "int4"),
    "int8, a quarter of the tokens": ("--codec", "int8", "--keep_tokens", str(round(TOKENS / 4))),
}
SEEDS = (0, 1)


def main(arguments: list[str] | None = None) -> None:
    """codec_study.json and codec_study.svg are in --out, and the table is printed, for docs/codec_study.md."""
    parser = argparse.ArgumentParser("benchmarks.codec_study")
    parser.add_argument("--data", required=True, help="a labelled source with the splits train and test")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the cache and the runs; resumes there")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where the figures and the plot go")
    parser.add_argument("--samples", type=int, default=4000, help="training samples; a quarter as many to validate")
    parser.add_argument("--epochs", type=int, default=6, help="passes over them")
    options = parser.parse_args(arguments)
    cache = _extract(options)
    rows = [_row(options, cache, name, seed) for seed in SEEDS for name in VARIANTS]
    study = {
        "data": options.data.rpartition("/")[2],
        "samples": options.samples,
        "epochs": options.epochs,
        "rows": rows,
    }
    write_atomically(options.out / "codec_study.json", (json.dumps(study, indent=1) + "\n").encode())
    plot(rows, options.out / "codec_study.svg")
    print(table(study))


def _command(module: str, *flags: object) -> None:
    import importlib

    importlib.import_module(f"{module}.__main__").main([str(flag) for flag in flags])


def _extract(options: argparse.Namespace) -> Path:
    """The cache: training views with a target set a variant, validation views with float32 targets alone."""
    options.work.mkdir(parents=True, exist_ok=True)
    weights, cache = options.work / "teacher.pt", options.work / "cache"
    if not weights.exists():
        write_data2vec2(weights, TEACHER)
    teacher = ("--teacher", "data2vec2", "--weights", weights, "--out", cache, "--data", options.data)
    train = ("--limit", options.samples, "--augment", "crop:scale=0.5-1")
    for flags in VARIANTS.values():
        _command("extract", *teacher, *train, *flags)
    _command("extract", *teacher, "--split", "test", "--limit", options.samples // 4, "--codec", "float32")
    return cache


def _row(options: argparse.Namespace, cache: Path, name: str, seed: int) -> dict[str, Any]:
    """Bytes a sample, the best validation loss and the kNN accuracy of one student."""
    from shards.reader import TargetSet

    flags = VARIANTS[name]
    keep = int(flags[3]) if len(flags) > 2 else None
    targets = [path for path in cache.glob("*-train-*/targets/*") if path.is_dir()]
    held = next(
        found
        for found in map(TargetSet, targets)
        if (found.manifest.codec, found.manifest.keep_tokens) == (flags[1], keep)
    )
    run = options.work / "runs" / f"{held.folder.name}-seed{seed}"
    recipe = ("--recipe", "distil-data2vec2", "--student", f"data2vec2:depth={TEACHER.depth // 2}", "--init", "random")
    training = ("--epochs", options.epochs, "--batch_size", 64, "--lr", 1e-3, "--precision", "float32", "--seed", seed)
    _command("distill", "--shards", cache, "--targets", held.folder.name, *recipe, *training, "--run_dir", run)
    if not (run / "evaluation.json").exists():
        limit = ("--limit", options.samples, "--split", "test")
        _command("evaluate", "--run", run, "--task", "knn,fidelity", *limit, "--targetset", "float32")
    summary = json.loads((run / "summary.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    return {
        "codec": name,
        "seed": seed,
        "bytes_a_sample": held.bytes_per_sample,
        "codec_cosine": held.manifest.codec_error["cosine_mean"],
        "loss": summary["best_val_loss"],
        "knn": evaluation["knn"]["top1"],
        "cosine": evaluation["fidelity"]["cosine"],
        "cka": evaluation["fidelity"]["cka"],
    }


def table(study: dict[str, Any]) -> str:
    """The study in Markdown: a line a codec, the mean over seeds and the range."""
    lines = [
        "| codec | bytes a sample | codec's cosine | loss against float32 targets | kNN accuracy | CKA |",
        "|---|---|---|---|---|---|",
    ]
    for name in VARIANTS:
        found = [row for row in study["rows"] if row["codec"] == name]
        size, cosine = found[0]["bytes_a_sample"], found[0]["codec_cosine"]
        shown = [_spread([row[field] for row in found]) for field in ("loss", "knn", "cka")]
        lines.append(f"| {name} | {size:,} | {cosine:.5f} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Loss and kNN accuracy over bytes a sample, a dot a run."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "teacher-shards", "svg.fonttype": "none"}
    from matplotlib import pyplot

    sizes = sorted({row["bytes_a_sample"] for row in rows})
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, field, label in zip(
        axes, ("loss", "knn"), ("validation loss (float32 targets)", "kNN accuracy"), strict=True
    ):
        for name in VARIANTS:
            found = [row for row in rows if row["codec"] == name]
            axis.plot([row["bytes_a_sample"] for row in found], [row[field] for row in found], "o", label=name)
        axis.set(xscale="log", xlabel="bytes a sample", ylabel=label)
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    run_command(main, "benchmarks.codec_study")
