"""`python -m benchmarks.bill`: the bill of every run of the thesis, live and from a cache, beside its own dollars.

Every teacher and student is built at its real size with random weights; the operations of a forward and of a step are
counted on a few samples and put over a card's published rates (`shards/bill/cards.py`): a prediction and a lower bound.
Full-size photos are decoded at the rate that the thesis reports of the eight cores beside its card, which is what held
its distil-data2vec2; what a cache stores decodes faster than any of these students learns. Extraction is one view, in
the codec that `extract` takes by itself. One disk takes the cache's bytes, and gives them to each epoch, at a rate that
is stated; it works beside the card.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.materials import as_flags
from benchmarks.materials import material as material_of
from benchmarks.steps import held_batch, open_cache, with_bank
from benchmarks.synthetic import extract, write_weights
from distill.bill.counted import counted_step
from distill.run import build_module
from extract.pipeline import forward
from shards.bill.arithmetic import Bill, BreakEven, Stage
from shards.bill.cards import CARDS, Card
from shards.bill.counting import Growth, count
from shards.command.progress import human_bytes
from shards.command.run import run_command
from shards.command.tables import print_table
from shards.commit import write_atomically
from shards.errors import UnknownName
from shards.reader import TargetSet, ViewSet

SAMPLES, BATCH = 4, 256
DECODED = 515.0
"""Full-size photos a second of eight cores (thesis, chapter on distilling data2vec2)."""
DISK_RATE = 1e9
"""Bytes a second, both ways: stated, and measured of no disk."""
IMAGENET, BLOCKS, PAIRS, IMAGES = 1_281_167, 13_000_000, 3_265_000, 2_780_904
"""Samples of an epoch: photos; blocks of 256 tokens; pairs, which are 89,273 steps of 256 in 7 epochs; their images."""
PHOTO = {"image_size": 224}
TEXT = {"data": "texts", "encoder": "bert", "tokens": 256}
PAIR = PHOTO | {"data": "pairs", "encoder": "bert"}
BLOCKS_OF_BOTH = "pair:data2vec2:depth=6+encoder:depth=6,tokenizer=ENCODER+mlp"


@dataclass(frozen=True)
class Run:
    """A run of the thesis."""

    recipe: str
    settings: dict[str, Any]
    target: str
    student: str
    epochs: int
    samples: int
    views: int
    """Of one stored view: the samples, or their images where several share one."""
    cards: int = 1
    reported: tuple[float, float] | None = None
    """The thesis's own hours and dollars; None where it reports none."""


CONV = "pair:resnet18+text_conv:width=256,tokenizer=ENCODER+mlp"
RESNET, WIDE = {"teacher": "resnet50"}, {"teacher": "data2vec2"}
OF_IMAGENET: dict[str, Any] = {"epochs": 10, "samples": IMAGENET, "views": IMAGENET}
OF_PAIRS: dict[str, Any] = {"epochs": 7, "samples": PAIRS, "views": IMAGES}
LADDER = (
    Run("resnet50-from-resnet101", PHOTO | {"teacher": "resnet101"}, "logits", "resnet50", **OF_IMAGENET),
    Run("distil-data2vec2", PHOTO | WIDE, "layer_mean", "data2vec2:depth=6", **OF_IMAGENET, reported=(6.9, 4.8)),
    Run("f-distilbert", TEXT, "layer_mean", "encoder:depth=6", 1, BLOCKS, BLOCKS, reported=(27.0, 18.6)),
    Run("shre", PAIR | RESNET, "logits", CONV, **OF_PAIRS, reported=(13.1, 9.1)),
    Run("transformer-shre", PAIR | RESNET, "logits", BLOCKS_OF_BOTH, **OF_PAIRS, cards=2, reported=(7.7, 10.6)),
    Run("s-smke", PAIR | WIDE, "cls", BLOCKS_OF_BOTH, **OF_PAIRS, cards=2, reported=(11.1, 15.3)),
)


@dataclass(frozen=True)
class Counted:
    """What one sample of a run takes."""

    teacher: Growth
    student: Growth
    row_bytes: float
    view_bytes: float


def counted(run: Run, folder: Path) -> Counted:
    """The run's teacher and student at their real sizes, on a few samples."""
    material = material_of(run.settings, folder, SAMPLES)
    extract(*as_flags(material.flags | {"target": run.target, "batch_size": 2, "out": folder / "cache"}))
    recipe = with_bank(run.recipe, SAMPLES // 2, folder) if run.recipe == "s-smke" else run.recipe
    changes = {"recipe": recipe, "student": material.spec(run.student), "batch_size": SAMPLES // 2, "init": "random"}
    if run.student == BLOCKS_OF_BOTH:
        changes["init"] = f"image=data2vec2@{write_weights('data2vec2', folder, run.settings['image_size'])}"
    _, cache = open_cache(folder / "cache", max_steps=2, **changes)
    module = build_module(cache, cache.recipe)
    batch = held_batch(cache, torch.device("cpu"))  # as the student takes it
    teacher = material.load_teacher().only([run.target])
    stored = cache.training.targetsets[0]
    viewset = ViewSet(cache.training.viewset.folder)
    viewset = viewset.read_by(teacher.inputs.reads(viewset.codec))
    growth = []
    for number in (1, 2):
        fields = {name: torch.from_numpy(rows) for name, rows in viewset.rows(0, list(range(number))).items()}
        held = [*teacher.network.parameters(), *fields.values()]
        growth.append(count(partial(forward, teacher, fields, torch.device("cpu"), "bfloat16"), held, number))
    student = counted_step(module, batch)
    view_bytes = sum(record.size for record in viewset.manifest.files.values()) / len(viewset.plan.keys)
    return Counted(Growth(*growth), student, _row_bytes(stored), view_bytes)


def _row_bytes(targetset: TargetSet) -> float:
    return float(sum(spec.row_bytes for spec in targetset.arrays.values()))


@dataclass(frozen=True)
class Bills:
    """A run's hours, with the teacher in the loop and from a cache."""

    live: Bill
    extraction: Bill
    cached: Bill
    stored: float
    """Bytes of the cache, one view."""

    @property
    def even(self) -> BreakEven:
        """In runs: an epoch is all epochs of one student."""
        return BreakEven(self.extraction.seconds, self.live.seconds, self.cached.seconds)


def bills_of(run: Run, found: Counted, card: Card, decoded: float = DECODED, disk: float = DISK_RATE) -> Bills:
    """The bills of a run on so many cards as it had; beside each, cores decode so many photos a second.

    Beside all, one disk takes and gives so many bytes a second.
    """
    forward = card.seconds(found.teacher.operations(BATCH), "bfloat16") / BATCH / run.cards
    step = card.seconds(found.student.operations(BATCH), "bfloat16") / BATCH / run.cards
    a_photo = 1 / decoded / run.cards if "image_size" in run.settings else 0.0
    seen = run.epochs * run.samples

    a_row = found.row_bytes + found.view_bytes

    def bill(photos: float, device: float, num_bytes: float) -> Bill:
        of_disk = Stage("disk", num_bytes / disk, "disk")
        return Bill([Stage("decode", photos * a_photo, "cores"), Stage("card", device, "device"), of_disk])

    stored = run.views * a_row
    live, extraction = bill(seen, seen * (forward + step), 0), bill(run.views, run.views * forward, stored)
    return Bills(live, extraction, bill(0, seen * step, seen * a_row), stored)


COLUMNS = (
    "run",
    "thesis h",
    "thesis $",
    "live h",
    "live $",
    "extract h",
    "from cache h",
    "all $",
    "cache",
    "pays after",
)


def row(run: Run, bills: Bills, price: float) -> tuple[str, ...]:
    """The run's line in the table."""
    own = [f"{each:g}" for each in run.reported] if run.reported else ["-", "-"]
    live, made, cached = bills.live.hours, bills.extraction.hours, bills.cached.hours
    dollars = price * run.cards
    students = bills.even.epochs
    pays = "never" if students is None else f"{students:.2g} runs"
    shown = [f"{live:.2f}", f"{live * dollars:.2f}", f"{made:.2f}", f"{cached:.2f}", f"{(made + cached) * dollars:.2f}"]
    return run.recipe, *own, *shown, human_bytes(bills.stored), pays


def main(arguments: list[str] | None) -> None:
    """Count every run, predict it on the card, and print the table."""
    parser = argparse.ArgumentParser("benchmarks.bill", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--card", default="rtx4090", help=", ".join(CARDS))
    parser.add_argument("--dollars_per_hour", type=float, default=0.69, help="of one card (default: the thesis's 0.69)")
    parser.add_argument("--decoded", type=float, default=DECODED, help="full-size photos a second (default: 515)")
    parser.add_argument("--disk", type=float, default=DISK_RATE, help="bytes a second of one disk (default: 1e9)")
    parser.add_argument("--only", choices=[run.recipe for run in LADDER], help="this run alone")
    parser.add_argument("--out", type=Path, help="a file for the table as JSON")
    options = parser.parse_args(arguments)
    if options.card not in CARDS:
        raise UnknownName("--card", options.card, CARDS)
    rows = []
    for run in LADDER:
        if options.only in (None, run.recipe):
            with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                found = counted(run, Path(folder))
            bills = bills_of(run, found, CARDS[options.card], options.decoded, options.disk)
            rows.append(row(run, bills, options.dollars_per_hour))
    print_table(COLUMNS, rows, COLUMNS[1:])
    print(f"a prediction for {options.card}, measured on none: counted operations over published rates, a lower bound;")
    print(f"a cache is written once and read in each epoch: one disk takes and gives {human_bytes(options.disk)}/s")
    if options.out is not None:
        told = [dict(zip(COLUMNS, each, strict=True)) for each in rows]
        write_atomically(options.out, (json.dumps({"card": options.card, "runs": told}, indent=1) + "\n").encode())


if __name__ == "__main__":
    run_command(main, "benchmarks.bill")
