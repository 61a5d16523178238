"""Text study: what a student of a sentence encoder learns from stored targets, and what from the teacher itself.

The first half of an encoder's blocks learn its layer means over packed blocks of a corpus, by the recipe f-distilbert:
from int8, float16, int8 with fewer tokens, from the live teacher, and from a random start, everything else alike. All
losses are against the same float32 targets. Student and teacher then embed held-out lines, each by the mean of its last
block's tokens.

    python -m benchmarks.text_study --teacher FOLDER --data text:FOLDER --work FOLDER [--out docs]
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.embeddings import embeddings, neighbour_agreement
from benchmarks.live import distil_live, with_teacher
from benchmarks.measure import Spread, alternate
from benchmarks.steps import cache_batches, open_cache
from benchmarks.study import command, drawing, mean_and_range, once, parser, write_study
from distill.memory import stepper
from distill.module import Distillation
from distill.run import build_module
from evaluate.tasks.fidelity import FeatureSimilarity
from shards.codecs.features import Features
from shards.command.run import run_command
from shards.reader import TargetSet, ViewSet


@dataclass(frozen=True)
class Variant:
    """Which targets a student learns, how they are stored, and where it starts."""

    name: str
    target: str
    codec: str = "int8"
    share: int = 1
    """Of a block's tokens, one in so many is stored."""
    live: bool = False
    flags: tuple[object, ...] = ()
    """Of distill, beside those of all."""
    seeds: tuple[int, ...] = (0,)

    def stored(self, block: int) -> tuple[str, int | None]:
        """What tells its target set from the others of the target: the codec, and how many tokens it keeps."""
        return self.codec, block // self.share if self.share > 1 else None


LAYER_MEAN, TOKENS = "layer_mean_no_norm", "tokens"
TIMED_STEPS = 4
AS_IT_IS = ("--max_steps", 1, "--lr", 1e-12)
"""One step that moves no weight by more than a rounding error."""
VARIANTS = (
    Variant("not distilled", LAYER_MEAN, flags=AS_IT_IS),
    Variant("live teacher", LAYER_MEAN, live=True),
    Variant("float16", LAYER_MEAN, "float16"),
    Variant("int8", LAYER_MEAN, seeds=(0, 1)),
    Variant("int8, a quarter of the tokens", LAYER_MEAN, share=4),
    Variant("int8, a sixteenth of the tokens", LAYER_MEAN, share=16),
    Variant("int8, from a random start", LAYER_MEAN, flags=("--init", "random")),
    Variant("not distilled", TOKENS, flags=AS_IT_IS),
    Variant("int8", TOKENS),
    Variant("int8, a quarter of the tokens", TOKENS, share=4),
)


def main(arguments: list[str] | None = None) -> None:
    """text_study.json and text_study.svg are in --out, and the table is printed, for docs/text_study.md."""
    flags = parser("text_study", "a corpus with the splits train and validation, as extract's --data")
    flags.add_argument("--teacher", required=True, help="a sentence encoder's folder, as of sentence-transformers")
    flags.add_argument("--lines", type=int, default=16_000, help="lines to train on; a tenth as many held out")
    flags.add_argument("--block", type=int, default=64, help="tokens a block; a longer held-out line is cut off there")
    flags.add_argument("--depth", type=int, default=3, help="the student's blocks")
    flags.add_argument("--batch_size", type=int, default=16, help="blocks an optimiser step")
    flags.add_argument("--max_steps", type=int, default=160, help="optimiser steps")
    options = flags.parse_args(arguments)
    _extract(options)
    rows = [_row(options, variant, seed) for variant in VARIANTS for seed in variant.seeds]
    training, held_out = ViewSet(_folder(options.work / "blocks", "-train-")), ViewSet(_folder(options.work / "lines"))
    study = {
        "data": training.identity["source"],
        "blocks": len(training.usable),
        "block_tokens": options.block,
        "held_out_lines": len(held_out.usable),
        "batch_size": options.batch_size,
        "steps": options.max_steps,
        "step_share": once(options.work / "step_share.json", partial(_step_share, options)),
        "rows": rows,
    }
    write_study(options.out, "text_study", study)
    plot(study, options.out / "text_study.svg")
    print(table(study))


def _extract(options: argparse.Namespace) -> None:
    """`blocks`: packed, a training target set a variant and float32 to validate; `lines`: held out, a line a view."""
    teacher, limit = ("--teacher", f"hf:{options.teacher}", "--data", options.data), max(1, options.lines // 10)
    blocks = (*teacher, "--out", options.work / "blocks", "--view", f"blocks:size={options.block}")
    for codec, keep in dict.fromkeys(each.stored(options.block) for each in VARIANTS):
        same = [each for each in VARIANTS if each.stored(options.block) == (codec, keep)]
        targets = dict.fromkeys(each.target for each in same)
        kept = ("--keep_tokens", keep) if keep else ()
        stored = ("--target", ",".join(targets), "--codec", codec, *kept)
        command("extract", *blocks, "--limit", options.lines, *stored)
    held_out = ("--split", "validation", "--limit", limit, "--codec", "float32")
    command("extract", *blocks, *held_out, "--target", f"{LAYER_MEAN},{TOKENS}")
    lines = ("--out", options.work / "lines", "--view", f"blocks:size={options.block},pack=none")
    command("extract", *teacher, *lines, *held_out, "--target", "pooled")


def _folder(cache: Path, split: str = "") -> Path:
    """The view set of `cache`, the only one whose name holds `split`."""
    (folder,) = (path.parent for path in cache.glob("*/viewset.json") if split in path.parent.name)
    return folder


def _row(options: argparse.Namespace, variant: Variant, seed: int) -> dict[str, Any]:
    """What one student cost and came to."""
    words = f"{variant.target} {variant.name} seed{seed}".replace(",", "").replace(" ", "-")
    run = options.work / "runs" / words
    return once(run / "study.json", partial(_measured, options, run, variant, seed))


def _measured(options: argparse.Namespace, run: Path, variant: Variant, seed: int) -> dict[str, Any]:
    cache, lines = options.work / "blocks", options.work / "lines"
    targetset = _targetset(cache, variant, options.block)
    _distil(options, run, cache, targetset, variant, seed)
    said, taught = embeddings(run, _folder(lines))
    similarity = FeatureSimilarity()
    similarity.update(Features(taught), said)
    summary = json.loads((run / "summary.json").read_text())
    unstored = variant.live or variant.flags == AS_IT_IS
    return {
        "target": variant.target,
        "stored": variant.name,
        "seed": seed,
        "bytes_a_token": None if unstored else targetset.bytes_per_sample / options.block,
        "loss": summary["best_val_loss"],
        **similarity.metrics(),
        "neighbours": neighbour_agreement(said, taught),
    }


def _targetset(cache: Path, variant: Variant, block: int) -> TargetSet:
    """What `cache` holds of the training split for the variant."""
    folders = [path.parent for path in _folder(cache, "-train-").glob("targets/*/targetset.json")]
    targetsets = [each for each in map(TargetSet, folders) if each.manifest.target == variant.target]
    found = {(each.manifest.codec, each.manifest.keep_tokens): each for each in targetsets}
    return found[variant.stored(block)]


def _distil(
    options: argparse.Namespace, run: Path, cache: Path, targetset: TargetSet, variant: Variant, seed: int
) -> None:
    """The variant's student is in `run`."""
    flags = ("--shards", cache, "--targets", targetset.folder.name, "--recipe", "f-distilbert", "--run_dir", run)
    flags += ("--student", f"encoder:depth={options.depth}", "--batch_size", options.batch_size, "--seed", seed)
    flags += ("--max_steps", options.max_steps, *variant.flags)
    if variant.live:
        distil_live(*flags)
    else:
        command("distill", *flags)


def _step_share(options: argparse.Namespace) -> dict[str, float]:
    """The CPU time of a step from int8, of that of one with the live teacher: the median, and the range."""
    targetset = _targetset(options.work / "blocks", Variant("int8", LAYER_MEAN), options.block)
    changes = {"recipe": "f-distilbert", "student": f"encoder:depth={options.depth}", "max_steps": options.max_steps}
    recipe, data = open_cache(targetset.folder, batch_size=options.batch_size, **changes)
    cpu = torch.device("cpu")
    modules = {"stored": build_module(data, recipe), "live": build_module(data, recipe, with_teacher(targetset))}

    def contender(module: Distillation) -> Callable[[], float]:
        take = stepper(module, cpu)

        def timed() -> float:
            batches = cache_batches(data, cpu)
            take(islice(batches, 1))  # threads start and buffers fill
            start = time.process_time()
            take(islice(batches, TIMED_STEPS))
            return (time.process_time() - start) / TIMED_STEPS

        return timed

    seconds = alternate({name: contender(module) for name, module in modules.items()}, rounds=5)
    return asdict(Spread.of(one / other for one, other in zip(seconds["stored"], seconds["live"], strict=True)))


def table(study: dict[str, Any]) -> str:
    """The study in Markdown: a line a variant, with the range where it has several seeds."""
    lines = [
        "| target | stored as | bytes a token | loss against float32 targets | cosine of embeddings | same nearest "
        "neighbour |",
        "|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        found = _rows_of(study, variant)
        size = found[0]["bytes_a_token"]
        shown = [mean_and_range([row[field] for row in found]) for field in ("loss", "cosine", "neighbours")]
        stored = f"{variant.name} | {'' if size is None else f'{size:.0f}'}"
        lines.append(f"| `{variant.target}` | {stored} | {' | '.join(shown)} |")
    chance, share = 1 / (study["held_out_lines"] - 1), study["step_share"]
    return "\n".join(lines) + (
        f"\n\nBy chance the nearest neighbour would be the same for {chance:.4f} of the lines. A step from int8 takes "
        f"{share['median']:.2f} ({share['least']:.2f} to {share['most']:.2f}) of the CPU time of a step with the live "
        "teacher.\n"
    )


def _rows_of(study: dict[str, Any], variant: Variant) -> list[dict[str, Any]]:
    wanted = variant.target, variant.name
    return [row for row in study["rows"] if (row["target"], row["stored"]) == wanted]


def plot(study: dict[str, Any], path: Path) -> None:
    """Loss and neighbour agreement over bytes a token, a dot a run; lines for those that store nothing."""
    panels = {"loss": "loss on layer means, held out", "neighbours": "same nearest neighbour as the teacher's"}
    stored = sorted({row["bytes_a_token"] for row in study["rows"]} - {None})
    with drawing(path) as axes:
        for axis, (field, label) in zip(axes, panels.items(), strict=True):
            for number, variant in enumerate(VARIANTS):
                found, colour = _rows_of(study, variant), f"C{number}"
                if field == "loss" and variant.target != LAYER_MEAN:
                    continue  # losses of other targets are on another scale
                sizes, name = [row["bytes_a_token"] for row in found], f"{variant.target}: {variant.name}"
                if None in sizes:
                    axis.axhline(found[0][field], color=colour, linestyle="--", label=name)
                else:
                    axis.plot(sizes, [row[field] for row in found], "o", color=colour, label=name)
            axis.set(xscale="log", xlabel="bytes a token", ylabel=label)
            axis.set_xticks(stored, [f"{size:.0f}" for size in stored], minor=False)
            axis.minorticks_off()
            axis.legend(fontsize=6)


if __name__ == "__main__":
    run_command(main, "benchmarks.text_study")
