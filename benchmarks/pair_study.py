"""Pair study: what a cached image teacher adds to an image-text student, loss by loss, on pictures of an unseen style.

Small encoders from random weights learn from pairs in two styles, and find captions and pictures of a third one by
`evaluate --task retrieval`. Captions are seen in training, pictures are not. A supervised teacher gives logits (SHRe)
and pooled features (S-SMKE), a self-supervised one, trained here (`benchmarks.pretraining`), its CLS (S-SMKE); `align`
reads pooled features of the first and of a text teacher, at the teachers' own size.

    python -m benchmarks.pair_study --data wds:FOLDER --text_teacher FOLDER --work FOLDER [--out docs]
"""

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import pretraining
from benchmarks.study import command, drawing, mean_and_range, once, parser, write_study
from distill.recipe import FOLDER as RECIPES
from shards.command.run import run_command

SHARED, HEAD = ("shared_1", "shared_2"), "head"
NOTHING = 1e-12
"""The weight of a term that is left out: the student keeps its head."""
METRICS = ("i2t_r1", "i2t_r5", "i2t_r10", "i2t_median_rank", "t2i_r1", "t2i_r5", "t2i_r10", "t2i_median_rank")


@dataclass(frozen=True)
class Variant:
    """A recipe with some of its terms changed."""

    name: str
    recipe: str
    target: str = ""
    loss: str | None = None
    """In the place of the recipe's loss to the teacher."""
    without: tuple[str, ...] = ()
    """Terms that are left out: `distillation`, or the output that a contrastive term is of."""
    bank: int = 0


VARIANTS = (
    Variant("Transformer SHRe", "transformer-shre", "logits"),
    Variant("without the teacher", "transformer-shre", "logits", without=("distillation",)),
    Variant("without contrast", "transformer-shre", "logits", without=(*SHARED, HEAD)),
    Variant("without contrast on the first layer", "transformer-shre", "logits", without=("shared_1",)),
    Variant("without contrast on the second layer", "transformer-shre", "logits", without=("shared_2",)),
    Variant("without contrast on the head", "transformer-shre", "logits", without=("head",)),
    Variant("S-SMKE, MSE", "s-smke", "pooled", loss="mse"),
    Variant("S-SMKE, contrastive", "s-smke", "pooled"),
    Variant("S-SMKE, contrastive with a bank", "s-smke", "pooled", bank=2048),
    Variant("S-SMKE from data2vec2, MSE", "s-smke", "cls", loss="mse"),
    Variant("S-SMKE from data2vec2, contrastive", "s-smke", "cls"),
    Variant("S-SMKE from data2vec2, contrastive with a bank", "s-smke", "cls", bank=2048),
    Variant("two cached towers aligned", "align"),
)


def main(arguments: list[str] | None = None) -> None:
    """pair_study.json and pair_study.svg are in --out, and the table is printed, for docs/pair_study.md."""
    flags = parser("pair_study", "pairs with the splits train and test, as extract's --data")
    flags.add_argument("--image_teacher", default="efficientnet_lite0", help="gives logits and pooled")
    flags.add_argument("--text_teacher", required=True, help="a sentence encoder's folder; its tokenizer is taken too")
    flags.add_argument("--pretraining_steps", type=int, default=1500, help="of the self-supervised teacher")
    flags.add_argument("--size", type=int, default=64, help="pixels a side of the students' views")
    flags.add_argument("--max_steps", type=int, default=400, help="optimiser steps")
    flags.add_argument("--batch_size", type=int, default=256, help="pairs an optimiser step")
    flags.add_argument("--seeds", type=int, default=3, help="students of each variant")
    flags.add_argument("--limit", type=int, help="pairs of each split; all by default")
    options = flags.parse_args(arguments)
    _extract(options)
    rows = [_row(options, variant, seed) for seed in range(options.seeds) for variant in VARIANTS]
    study = {
        "data": options.data.rpartition("/")[2],
        "image_teacher": options.image_teacher,
        "batch_size": options.batch_size,
        "steps": options.max_steps,
        "chance": rows[0].pop("chance"),
        "candidates": rows[0].pop("candidates"),
        "rows": [{name: value for name, value in row.items() if name not in ("chance", "candidates")} for row in rows],
    }
    write_study(options.out, "pair_study", study)
    plot(study, options.out / "pair_study.svg")
    print(table(study))


def _extract(options: argparse.Namespace) -> None:
    """`small`: the students' views with the image teacher's targets; `large`: both towers' rows for `align`.

    The test split lies in caches of its own, where no run finds it to choose its best step by.
    """
    limit = ("--limit", options.limit) if options.limit else ()
    for split, views in (("train", 4), ("test", 1)):
        data = ("--data", options.data, "--split", split, *limit)
        where = "" if split == "train" else "-test"
        small = (
            *data,
            "--out",
            options.work / f"small{where}",
            "--view",
            f"pair:size={options.size}",
            "--views",
            views,
        )
        command("extract", *small, "--teacher", options.image_teacher, "--target", "logits,pooled")
        weights = options.work / "data2vec2.pt"
        if not weights.exists():
            steps = ("--max_steps", str(options.pretraining_steps))
            pretraining.main(["--shards", str(options.work / "small"), "--weights", str(weights), *steps])
        command("extract", *small, "--teacher", "data2vec2", "--weights", weights, "--target", "cls")
        large = (*data, "--out", options.work / f"large{where}")
        command("extract", *large, "--teacher", options.image_teacher, "--target", "pooled")
        command("extract", *large, "--teacher", f"hf:{options.text_teacher}", "--target", "pooled")


def _row(options: argparse.Namespace, variant: Variant, seed: int) -> dict[str, Any]:
    """What one student cost and came to."""
    run = options.work / "runs" / f"{variant.name} seed{seed}".replace(",", "").replace(" ", "-")
    return once(run / "study.json", partial(_measured, options, run, variant, seed))


def _measured(options: argparse.Namespace, run: Path, variant: Variant, seed: int) -> dict[str, Any]:
    recipe = options.work / "recipes" / f"{run.name.rpartition('-')[0]}.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(yaml.safe_dump(changed(variant)))
    cache = options.work / ("small" if variant.target else "large")
    flags = ("--shards", cache, "--recipe", recipe, "--run_dir", run, "--seed", seed, "--max_steps", options.max_steps)
    flags += ("--precision", "float32", "--batch_size", options.batch_size)
    seconds = time.perf_counter()
    command("distill", *flags, *(_student(options, variant) if variant.target else ()))
    seconds = time.perf_counter() - seconds
    test = cache.with_name(f"{cache.name}-test")
    command("evaluate", "--run", run, "--shards", test, "--task", "retrieval", "--split", "test")
    measured = json.loads((run / "evaluation.json").read_text())["retrieval"]
    summary = json.loads((run / "summary.json").read_text())
    return {
        "variant": variant.name,
        "seed": seed,
        "seconds": seconds,
        "parameters": summary["num_parameters"],
        **{metric: measured[metric] for metric in METRICS},
        "chance": measured["chance"],
        "candidates": measured["samples"],
    }


def _student(options: argparse.Namespace, variant: Variant) -> tuple[object, ...]:
    text = f"encoder:depth=1,width=96,heads=3,tokens=16,tokenizer={options.text_teacher}"
    student = f"pair:convnet:width=12,depth=5+{text}+mlp:width=256"
    targets = next((options.work / "small").glob(f"*-train-*/targets/*-{variant.target}-*")).name
    return ("--student", student, "--init", "random", "--targets", targets, "--lr", 1e-3)


def changed(variant: Variant) -> dict[str, Any]:
    """The recipe of a variant."""
    recipe: dict[str, Any] = yaml.safe_load((RECIPES / f"{variant.recipe}.yaml").read_text())
    recipe.pop("fits", None)
    for term in recipe["terms"]:
        to_teacher = "to" in term
        if to_teacher and variant.loss:
            term["loss"] = variant.loss
        if to_teacher and variant.bank:
            term["bank"] = variant.bank
        elif to_teacher:
            term.pop("bank", None)
        if "distillation" in variant.without if to_teacher else term["of"][0].rpartition("/")[2] in variant.without:
            term["weight"] = NOTHING
    return recipe


def table(study: dict[str, Any]) -> str:
    """The study as a Markdown table, a line a variant: the mean of its seeds, and their range."""
    head = ("variant", *METRICS, "seconds")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    chance = [f"{study['chance'][metric]:.4g}" for metric in METRICS]
    lines.append(f"| by chance | {' | '.join(chance)} | |")
    for name in dict.fromkeys(row["variant"] for row in study["rows"]):
        of_seeds = [row for row in study["rows"] if row["variant"] == name]
        digits = {metric: 1 if "rank" in metric else 3 for metric in METRICS}
        cells = [mean_and_range([row[metric] for row in of_seeds], digits[metric]) for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} | {of_seeds[0]['seconds']:.0f} |")
    return "\n".join(lines)


def plot(study: dict[str, Any], path: Path) -> None:
    """R@10 both ways, a bar a variant, its seeds as points, chance as a line."""
    names = list(dict.fromkeys(row["variant"] for row in study["rows"]))
    with drawing(path) as axes:
        for axis, metric, title in zip(axes, ("i2t_r10", "t2i_r10"), ("image to text", "text to image"), strict=True):
            for place, name in enumerate(names):
                values = [row[metric] for row in study["rows"] if row["variant"] == name]
                axis.barh(place, sum(values) / len(values), color="tab:blue", alpha=0.5)
                axis.plot(values, [place] * len(values), ".", color="black")
            axis.axvline(study["chance"][metric], color="tab:red", linestyle="--")
            axis.set(title=f"{title}: R@10", yticks=range(len(names)), yticklabels=names if axis is axes[0] else [])
            axis.invert_yaxis()


if __name__ == "__main__":
    run_command(main, "benchmarks.pair_study")
