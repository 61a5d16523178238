"""Codec study on texts: what a student of a trained teacher loses when its targets are stored in fewer bytes.

The first blocks of a sentence encoder learn the output of its last one over packed blocks of texts: from all tokens
in float32, float16, int8, int4, by codebooks of fewer and fewer bytes, and from a quarter of the tokens. All else is
alike. Losses are against float32 targets of texts that no student saw. kNN and a linear probe classify labelled texts
by the mean of the student's tokens.

    python -m benchmarks.codec_study_texts --teacher FOLDER --data text:FOLDER:label=label --work FOLDER [--out docs]
"""

import argparse
import shutil
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float

from benchmarks.fronts import Measure, front, plot_fronts
from benchmarks.study import command, mean_and_range, once, parser, write_study
from benchmarks.text_probes import Lines, distance, full_blocks, probes
from distill.recipe import FOLDER as RECIPES
from evaluate.student import TrainedStudent, load_student
from extract.modalities.text import TextInput
from extract.recompute import load_teacher_of
from shards.codec_error import cosine_error, variance_lost
from shards.codecs.channels import CALIBRATION_SAMPLES
from shards.command.run import run_command
from shards.commit import write_atomically
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet, ViewSet

TARGET, RECIPE = "tokens", "f-distilbert"
SHARES = {1: "", 4: ", a quarter of the tokens"}


@dataclass(frozen=True)
class Arm:
    """How the targets of a student are stored, and what it learns of them."""

    codec: str
    share: int = 1
    """Of a block's tokens, one in so many is stored."""
    objective: str = "mse"

    def file(self, seed: int) -> str:
        """What a file of one of its students is called."""
        return f"{self.name}-seed{seed}".replace(" ", "_")

    @property
    def name(self) -> str:
        """As the table has it."""
        return self.codec + SHARES[self.share] + (", its codes predicted" if self.objective == "codes" else "")


INT8 = Arm("int8")
ARMS = (
    Arm("float32"),
    Arm("float16"),
    INT8,
    Arm("int4"),
    Arm("int8", 4),
    Arm("pq:96"),
    Arm("pq:64"),
    Arm("pq:32"),
    Arm("pq:32,rotation=pca"),
    Arm("pq:32", objective="codes"),
    Arm("rq:32"),
    Arm("pq:16"),
    Arm("pq:32", 4),
    Arm("rq:8"),
)
MEASURES = (
    Measure("loss", "loss against float32 targets, held-out texts", 1, 4, least=True),
    Measure("knn", "kNN accuracy, %", 100, 1),
    Measure("linear", "accuracy of a linear probe, %", 100, 1),
)
AS_IT_IS = ("--max_steps", 1, "--lr", 1e-12)
"""One step that moves no weight by more than a rounding error."""


def main(arguments: list[str] | None = None) -> None:
    """codec_study_texts.json and .svg are in --out, and the table is printed, for docs/codec_study_texts.md."""
    flags = parser("codec_study_texts", "labelled texts with the splits train and validation, as extract's --data")
    flags.add_argument("--teacher", required=True, help="a sentence encoder's folder, as of sentence-transformers")
    flags.add_argument("--lines", type=int, default=2400, help="texts to train on; a tenth as many for the loss")
    flags.add_argument("--bank", type=int, default=3000, help="texts that vote, and that train the linear probe")
    flags.add_argument("--queries", type=int, default=3000, help="texts that are classified")
    flags.add_argument("--block", type=int, default=64, help="tokens a block of training")
    flags.add_argument("--line", type=int, default=32, help="tokens of a text that is classified; it is cut off there")
    flags.add_argument("--depth", type=int, default=2, help="the student's blocks")
    flags.add_argument("--batch_size", type=int, default=8, help="blocks an optimiser step")
    flags.add_argument("--max_steps", type=int, default=58, help="optimiser steps")
    flags.add_argument("--seeds", type=int, default=3, help="students a codec")
    options = flags.parse_args(arguments)
    _extract(options)
    held_out = _only_targetset(options.work / "held_out")
    teacher = load_teacher_of(held_out, None, None, "--teacher")
    assert isinstance(teacher.inputs, TextInput)
    sizes = {"train": options.bank, "validation": options.queries}
    bank, queries = (
        Lines.of(options.data, split, size, options.line, teacher.inputs.tokenizer) for split, size in sizes.items()
    )
    measure = partial(_measured, options, bank, queries)
    rows = [
        once(options.work / f"rows/{arm.file(seed)}.json", partial(measure, arm, seed))
        for seed in range(options.seeds)
        for arm in ARMS
    ]
    start = once(options.work / "rows/start.json", partial(measure, INT8, 0, AS_IT_IS))
    network = TrainedStudent(teacher.network, teacher.inputs, None, None, torch.device("cpu"), torch.bfloat16)
    study = {
        "data": ViewSet(held_out.folder.parents[1]).identity["source"],
        "blocks": len(ViewSet(_folder(options.work / "blocks")).usable),
        "held_out_blocks": len(ViewSet(held_out.folder.parents[1]).usable),
        **{name: getattr(options, name) for name in ("block", "bank", "queries", "depth", "batch_size", "max_steps")},
        "classes": bank.num_classes,
        "codecs": {codec: _codec_error(options, codec) for codec in dict.fromkeys(arm.codec for arm in ARMS)},
        "teacher": once(options.work / "rows/teacher.json", lambda: probes(network, bank, queries)._asdict()),
        "start": {measure.name: start[measure.name] for measure in MEASURES},
        "rows": rows,
    }
    write_study(options.out, "codec_study_texts", study)
    shares = {arm.name: str(arm.share) for arm in ARMS if arm.objective == "mse"}
    drawn = [row for row in paired(rows) if row["codec"] in shares]  # the loss of predicted codes is on another scale
    plot_fronts(drawn, shares, MEASURES[:2], "bytes a token", options.out / "codec_study_texts.svg")
    print(table(study))


def _extract(options: argparse.Namespace) -> None:
    """`blocks`: a training target set for each way to store; `held_out`: float32 targets."""
    work, teacher = options.work, ("--teacher", f"hf:{options.teacher}", "--data", options.data)
    blocks = (*teacher, "--view", f"blocks:size={options.block}")
    for share in SHARES:
        codecs = list(dict.fromkeys(arm.codec for arm in ARMS if arm.share == share))
        stored = ("--target", ",".join([TARGET] * len(codecs)), "--codec", ",".join(codecs))
        kept = ("--keep_tokens", options.block // share) if share > 1 else ()
        command("extract", *blocks, "--out", work / "blocks", "--limit", options.lines, *stored, *kept)
    held_out = ("--split", "validation", "--limit", max(1, options.lines // 10))
    command("extract", *blocks, "--out", work / "held_out", *held_out, "--target", TARGET, "--codec", "float32")


def _folder(cache: Path) -> Path:
    """The only view set of `cache`."""
    (path,) = cache.glob("*/viewset.json")
    return path.parent


def _only_targetset(cache: Path) -> TargetSet:
    """The only target set of `cache`."""
    (path,) = _folder(cache).glob("targets/*/targetset.json")
    return TargetSet(path.parent)


def _measured(
    options: argparse.Namespace, bank: Lines, queries: Lines, arm: Arm, seed: int, flags: tuple[object, ...] = ()
) -> dict[str, Any]:
    """What one student learnt from, and what it came to; its run is removed, for it is 250 MB."""
    run, cache = options.work / f"runs/{arm.file(seed)}", options.work / "blocks"
    shutil.rmtree(run, ignore_errors=True)
    targetset = _targetset(cache, arm, options.block)
    recipe = options.work / f"{RECIPE}.yaml"
    write_atomically(recipe, (RECIPES / recipe.name).read_bytes() + b"validation_fraction: 0\n")
    student = ("--student", f"encoder:depth={options.depth}", "--recipe", recipe, "--objective", arm.objective)
    training = ("--batch_size", options.batch_size, "--max_steps", options.max_steps, "--seed", seed)
    data = ("--shards", cache, "--targets", targetset.folder.name, "--run_dir", run)
    command("distill", *data, *student, *training, *flags)
    trained = load_student(run, "cpu", "bfloat16")
    row = {
        "codec": arm.name,
        "seed": seed,
        "bytes_a_token": targetset.bytes_per_sample / options.block,
        "loss": distance(load_student(run, "cpu", "float32"), _only_targetset(options.work / "held_out")),
        **probes(trained, bank, queries)._asdict(),
    }
    shutil.rmtree(run)
    return row


def _targetset(cache: Path, arm: Arm, block: int) -> TargetSet:
    """What `cache` holds for the arm."""
    targetsets = [TargetSet(path.parent) for path in _folder(cache).glob("targets/*/targetset.json")]
    found = {(each.manifest.codec, each.manifest.keep_tokens): each for each in targetsets}
    return found[arm.codec, block // arm.share if arm.share > 1 else None]


def _codec_error(options: argparse.Namespace, codec: str) -> dict[str, float]:
    """The mean cosine and the share of variance lost, of blocks of which no codebook was trained where there are such.

    A kept token is stored as it is where all are, so that these are of all tokens.
    """
    cache, rows = options.work / "blocks", list[Float[torch.Tensor, "blocks tokens dim"]]()
    blocks = full_blocks(ViewSet(_folder(cache)))
    unseen = blocks[min(CALIBRATION_SAMPLES, len(blocks) // 2) :]
    for each in ("float32", codec):
        targetset = _targetset(cache, Arm(each), options.block)
        rows.append(read_decoded(targetset, codec_of(targetset), 0, unseen))
    return {"cosine": cosine_error(*rows)["cosine_mean"], "variance_lost": variance_lost(*rows)}


def paired(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with int8's mean and their own difference to int8 of the same seed in place of each figure.

    So arms of several seeds and of one can be compared: what a seed does to int8 it does to the others too.
    """
    int8 = {row["seed"]: row for row in rows if row["codec"] == INT8.name}
    names = [each.name for each in MEASURES]
    means = {name: statistics.mean(row[name] for row in int8.values()) for name in names}
    return [{**row, **{name: means[name] + row[name] - int8[row["seed"]][name] for name in names}} for row in rows]


def table(study: dict[str, Any]) -> str:
    """The study in Markdown: a line an arm, with the mean over seeds and the range, and what is on the fronts."""
    int8 = {row["seed"]: row for row in study["rows"] if row["codec"] == INT8.name}
    lines = [
        "| stored as | bytes a token | codec's cosine | variance lost | loss | kNN, % | linear, % | "
        "loss over int8's, % | kNN over int8's, points | linear over int8's, points |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        if not (rows := [row for row in study["rows"] if row["codec"] == arm.name]):
            continue  # the page may have been made before its turn came
        shown = [mean_and_range([each.factor * row[each.name] for row in rows], each.digits) for each in MEASURES]
        for each in MEASURES:
            of_int8 = [int8[row["seed"]][each.name] for row in rows]
            differences = [row[each.name] - other for row, other in zip(rows, of_int8, strict=True)]
            over = [gap / other if each.least else gap for gap, other in zip(differences, of_int8, strict=True)]
            shown.append("" if arm == INT8 else mean_and_range([100 * gap for gap in over], 2))
        codec = study["codecs"][arm.codec]
        stored = f"| {arm.name} | {rows[0]['bytes_a_token']:.0f} | {codec['cosine']:.4f} "
        lines.append(f"{stored}| {100 * codec['variance_lost']:.2f}% | {' | '.join(shown)} |")
    references = [
        f"{name} {100 * study[key]['knn']:.1f} and {100 * study[key]['linear']:.1f}"
        for key, name in (("teacher", "the teacher's own"), ("start", "of the student before any step"))
    ]
    on_front = [f"by {each.name}: {', '.join(front(paired(study['rows']), each))}" for each in MEASURES]
    return "\n".join(lines) + (
        f"\n\nkNN and linear, %: {'; '.join(references)} (loss {study['start']['loss']:.4f}). On the fronts, by the "
        f"differences to int8 of the same seed, {'; '.join(on_front)}.\n"
    )


if __name__ == "__main__":
    run_command(main, "benchmarks.codec_study_texts")
