"""Codec study: what a student loses when its targets are stored in fewer bytes.

One small data2vec 2.0 of seeded random weights speaks once to each view of real images; a student of half its depth,
from random weights, learns its layer means from float32, float16, int8, int4, codebooks, and int8 with a quarter of the
tokens, everything else alike. All losses are against the same float32 validation targets; other seeds say what chance
does.

    python -m benchmarks.codec_study --data parquet:FOLDER [--work FOLDER] [--out docs]
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks.dense import BASE, write_data2vec2
from benchmarks.study import command, drawing, mean_and_range, parser, write_study
from shards.command.run import run_command

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
    "pq:64,rotation=pca": ("--codec", "pq:64,rotation=pca"),
    "pq:32,rotation=pca": ("--codec", "pq:32,rotation=pca"),
    "int8, a quarter of the tokens": ("--codec", "int8", "--keep_tokens", str(round(TOKENS / 4))),
}
SEEDS = (0, 1)
TICKS = (2_000, 5_000, 10_000, 20_000)


def main(arguments: list[str] | None = None) -> None:
    """codec_study.json and codec_study.svg are in --out, and the table is printed, for docs/codec_study.md."""
    flags = parser("codec_study", "a labelled source with the splits train and test")
    flags.add_argument("--samples", type=int, default=4000, help="training samples; a quarter as many to validate")
    flags.add_argument("--epochs", type=int, default=6, help="passes over them")
    options = flags.parse_args(arguments)
    cache = _extract(options)
    rows = [_row(options, cache, name, seed) for seed in SEEDS for name in VARIANTS]
    study = {
        "data": options.data.rpartition("/")[2],
        "samples": options.samples,
        "epochs": options.epochs,
        "rows": rows,
    }
    write_study(options.out, "codec_study", study)
    plot(rows, options.out / "codec_study.svg")
    print(table(study))


def _extract(options: argparse.Namespace) -> Path:
    """The cache: training views with a target set a variant, validation views with float32 targets alone."""
    options.work.mkdir(parents=True, exist_ok=True)
    weights, cache = options.work / "teacher.pt", options.work / "cache"
    if not weights.exists():
        write_data2vec2(weights, TEACHER)
    teacher = ("--teacher", "data2vec2", "--weights", weights, "--out", cache, "--data", options.data)
    train = ("--limit", options.samples, "--augment", "crop:scale=0.5-1")
    for flags in VARIANTS.values():
        command("extract", *teacher, *train, *flags)
    command("extract", *teacher, "--split", "test", "--limit", options.samples // 4, "--codec", "float32")
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
    command("distill", "--shards", cache, "--targets", held.folder.name, *recipe, *training, "--run_dir", run)
    if not (run / "evaluation.json").exists():
        limit = ("--limit", options.samples, "--split", "test")
        command("evaluate", "--run", run, "--task", "knn,fidelity", *limit, "--targetset", "float32")
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
        shown = [mean_and_range([row[field] for row in found]) for field in ("loss", "knn", "cka")]
        lines.append(f"| {name} | {size:,} | {cosine:.5f} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Loss and kNN accuracy over bytes a sample, a dot a run."""
    labels = {"loss": "validation loss (float32 targets)", "knn": "kNN accuracy"}
    with drawing(path) as axes:
        for axis, (field, label) in zip(axes, labels.items(), strict=True):
            for name in VARIANTS:
                found = [row for row in rows if row["codec"] == name]
                axis.plot([row["bytes_a_sample"] for row in found], [row[field] for row in found], "o", label=name)
            axis.set(xscale="log", xlabel="bytes a sample", ylabel=label)
            axis.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS], minor=False)
            axis.minorticks_off()
        axes[0].legend(fontsize=8)


if __name__ == "__main__":
    run_command(main, "benchmarks.codec_study")
