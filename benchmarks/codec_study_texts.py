"""Codec study on texts: what a student of a trained teacher loses when its targets are stored in fewer bytes.

The first blocks of a sentence encoder learn the output of its last one over packed blocks of texts: from all tokens
in float32, float16, int8, int4, by codebooks of fewer and fewer bytes, and from a quarter of the tokens. All else is
alike. Codebooks are trained on texts that no student learns from. Losses are against float32 targets of texts
that no student saw. kNN and a linear probe classify labelled texts by the mean of the student's tokens.

    python -m benchmarks.codec_study_texts --teacher FOLDER --data text:FOLDER:label=label --work FOLDER [--out docs]
"""

import argparse
import shutil
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.codec_arms import ARMS, INT8, Arm, codec_errors, extract_arms, folder_of, only_targetset
from benchmarks.fronts import Measure, front, plot_fronts
from benchmarks.study import command, mean_and_range, once, parser, write_study
from benchmarks.text_probes import Lines, distance, full_blocks, probes
from distill.recipe import FOLDER as RECIPES
from evaluate.student import TrainedStudent, load_student
from extract.modalities.text import TextInput
from extract.recompute import load_teacher_of
from shards.codecs.channels import CALIBRATION_SAMPLES
from shards.command.run import run_command
from shards.commit import write_atomically
from shards.reader import ViewSet

RECIPE = "f-distilbert"
MEASURES = (
    Measure("loss", "loss against float32 targets, held-out texts", 1, 4, least=True),
    Measure("knn", "kNN accuracy, %", 100, 1),
    Measure("linear", "accuracy of a linear probe, %", 100, 1),
)
AS_IT_IS = ("--max_steps", 1, "--lr", 1e-12)
"""One step that moves no weight by more than a rounding error."""


def main(arguments: list[str] | None = None) -> None:
    """codec_study_texts.json and .svg are in --out, and the table is printed, for docs/codec_study_texts.md."""
    flags = parser(
        "codec_study_texts", "labelled texts with the splits train, validation and test, as extract's --data"
    )
    flags.add_argument("--teacher", required=True, help="a sentence encoder's folder, as of sentence-transformers")
    flags.add_argument("--lines", type=int, default=2400, help="texts to train on; a tenth as many for the loss")
    flags.add_argument("--calibration", type=int, default=5200, help="texts of the test split: they train codebooks")
    flags.add_argument("--bank", type=int, default=3000, help="texts that vote, and that train the linear probe")
    flags.add_argument("--queries", type=int, default=3000, help="texts that are classified")
    flags.add_argument("--block", type=int, default=64, help="tokens a block of training")
    flags.add_argument("--line", type=int, default=32, help="tokens of a text that is classified; it is cut off there")
    flags.add_argument("--depth", type=int, default=2, help="the student's blocks")
    flags.add_argument("--batch_size", type=int, default=8, help="blocks an optimiser step")
    flags.add_argument("--max_steps", type=int, default=58, help="optimiser steps")
    flags.add_argument("--seeds", type=int, default=3, help="students a codec")
    options = flags.parse_args(arguments)
    extract_arms(options)
    held_out = only_targetset(options.work / "held_out")
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
        "blocks": _num_blocks(options.work / "blocks"),
        "calibration_blocks": _num_blocks(options.work / "calibration"),
        "held_out_blocks": _num_blocks(options.work / "held_out"),
        **{name: getattr(options, name) for name in ("block", "bank", "queries", "depth", "batch_size", "max_steps")},
        "classes": bank.num_classes,
        "codecs": {codec: codec_errors(options, codec) for codec in dict.fromkeys(arm.codec for arm in ARMS)},
        "teacher": once(options.work / "rows/teacher.json", lambda: probes(network, bank, queries)._asdict()),
        "start": {measure.name: start[measure.name] for measure in MEASURES},
        "rows": rows,
    }
    write_study(options.out, "codec_study_texts", study)
    shares = {arm.name: str(arm.share) for arm in ARMS if arm.objective == "mse"}
    drawn = [row for row in paired(rows) if row["codec"] in shares]  # the loss of predicted codes is on another scale
    plot_fronts(drawn, shares, MEASURES, "bytes a token", options.out / "codec_study_texts.svg")
    print(table(study))


def _num_blocks(cache: Path) -> int:
    return len(full_blocks(ViewSet(folder_of(cache))))


def _measured(
    options: argparse.Namespace, bank: Lines, queries: Lines, arm: Arm, seed: int, flags: tuple[object, ...] = ()
) -> dict[str, Any]:
    """What one student learnt from, and what it came to; its run is removed, for it is 250 MB."""
    run, cache = options.work / f"runs/{arm.file(seed)}", options.work / "blocks"
    shutil.rmtree(run, ignore_errors=True)
    targetset = only_targetset(cache, arm.codec, options.block // arm.share if arm.share > 1 else None)
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
        "loss": distance(load_student(run, "cpu", "float32"), only_targetset(options.work / "held_out")),
        **probes(trained, bank, queries)._asdict(),
    }
    shutil.rmtree(run)
    return row


def paired(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with int8's mean and their own difference to int8 of the same seed in place of each figure.

    So arms of several seeds and of one can be compared: what a seed does to int8 it does to the others too.
    """
    int8 = {row["seed"]: row for row in rows if row["codec"] == INT8.name}
    names = [each.name for each in MEASURES]
    means = {name: statistics.mean(row[name] for row in int8.values()) for name in names}
    return [{**row, **{name: means[name] + row[name] - int8[row["seed"]][name] for name in names}} for row in rows]


def error_table(study: dict[str, Any]) -> str:
    """What each codec loses of rows, in Markdown: of those that trained nothing, and of those that trained it."""
    blocks, few = study["calibration_blocks"], f"{CALIBRATION_SAMPLES} blocks"
    lines = [
        f"| codec | cosine | variance lost | of its own {blocks} blocks | trained on {few}: variance lost | of these |",
        "|---|---|---|---|---|---|",
    ]
    for codec, error in study["codecs"].items():
        of = [error, error["few"]] if "few" in error else [error]
        lost = [f"{100 * each[name]:.2f}%" for each in of for name in ("variance_lost", "variance_lost_seen")]
        lines.append(f"| {codec} | {error['cosine']:.4f} | {' | '.join(lost + [''] * (4 - len(lost)))} |")
    return "\n".join(lines) + "\n\n"


def table(study: dict[str, Any]) -> str:
    """The study in Markdown: a line an arm, with the mean over seeds and the range, and what is on the fronts."""
    int8 = {row["seed"]: row for row in study["rows"] if row["codec"] == INT8.name}
    lines = [
        "| stored as | bytes a token | loss | kNN, % | linear, % | "
        "loss over int8's, % | kNN over int8's, points | linear over int8's, points |",
        "|---|---|---|---|---|---|---|---|",
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
        lines.append(f"| {arm.name} | {rows[0]['bytes_a_token']:.0f} | {' | '.join(shown)} |")
    references = [
        f"{name} {100 * study[key]['knn']:.1f} and {100 * study[key]['linear']:.1f}"
        for key, name in (("teacher", "the teacher's own"), ("start", "of the student before any step"))
    ]
    fronts = {each.name: [f"`{way}`" for way in front(paired(study["rows"]), each)] for each in MEASURES}
    on_front = [f"by {name}: {', '.join(ways)}" for name, ways in fronts.items()]
    probed = f"kNN and linear, %: {'; '.join(references)} (loss {study['start']['loss']:.4f})"
    found = f"On the fronts, by the differences to int8 of the same seed, {'; '.join(on_front)}"
    return error_table(study) + "\n".join(lines) + f"\n\n{probed}. {found}.\n"


if __name__ == "__main__":
    run_command(main, "benchmarks.codec_study_texts")
