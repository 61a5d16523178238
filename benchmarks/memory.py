"""Memory: does a step of a large student fit a card of 24 GB, and a contrastive batch of 4,096 in parts?

Without a teacher beside it the student has the card to itself. On a GPU the process is capped at 24 GB and makes steps;
reported is the peak of what torch allocated. On a CPU the same steps run on tensors without values, and all bytes that
are live at a time are counted: weights, gradients, AdamW's moments, the batch, what autograd keeps and what one
operation hands to the next (`shards.bill.live_bytes`); what a kernel takes for itself comes on top.
Limit: 24 GB.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.materials import material as material_of
from benchmarks.measure import Figure, Report, Sizes, Spread, run, settings_here, the_device
from benchmarks.steps import held_batch, open_cache, stepper, with_bank
from benchmarks.synthetic import views_of, write_targets
from distill.module import Distillation
from distill.run import build_module
from extract.modalities.pair import PairInput
from extract.modalities.text import TextInput
from shards.bill.live_bytes import peak_of, without_values
from shards.loader import Batch
from shards.order import Reading

CARD_BYTES = 24 * 10**9
SAMPLES = 4
"""In the cache; a step's batch has these as often as it takes."""
DATA2VEC2 = {"recipe": "features", "student": "data2vec2:depth=6", "target": "layer_mean", "codec": "int8"}
DATA2VEC2 |= {"image_size": 224, "precision": "bfloat16", "steps": ((256, 1), (512, 1))}
SMKE = {"recipe": "s-smke", "target": "cls", "codec": "float16", "data": "pairs", "encoder": "bert"}
SMKE |= {"teacher": "data2vec2", "student": "pair:data2vec2:depth=6+encoder:depth=6,tokenizer=ENCODER+mlp"}
SMKE |= {"image_size": 224, "precision": "bfloat16", "bank": 65536}
SMKE |= {"steps": ((512, 1), (512, 4), (4096, 16), (4096, 32))}
CASES: dict[str, Sizes] = {
    "data2vec2": {
        "cpu": DATA2VEC2,
        "cuda": DATA2VEC2,
        "quick": DATA2VEC2 | {"student": "data2vec2:depth=1", "image_size": 56, "steps": ((8, 1),)},
    },
    "s-smke": {
        "cpu": SMKE,
        "cuda": SMKE,
        "quick": SMKE
        | {"student": "pair:data2vec2:depth=1+encoder:depth=1,width=32,tokenizer=ENCODER+mlp:width=32"}
        | {"encoder": "tiny", "image_size": 32, "bank": 16, "steps": ((8, 1), (8, 2))},
    },
}
"""`steps`: pairs of a batch size and the recipe's grad_cache."""


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """A step of each batch size, bfloat16 autocast."""
    settings, device = settings_here(CASES[options.case], options), the_device()
    material = material_of(settings, folder, SAMPLES)
    write_targets(views_of(folder / "cache", material.data, material.view), settings["target"], settings["codec"])
    changes: dict[str, Any] = {name: settings[name] for name in ("recipe", "precision")} | {"batch_size": SAMPLES // 2}
    changes["student"] = material.spec(settings["student"])
    if "bank" in settings:
        changes["recipe"] = with_bank(settings["recipe"], SAMPLES // 2, folder)
        changes["init"] = f"image=data2vec2@{material.weights}"
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(CARD_BYTES / torch.cuda.get_device_properties(0).total_memory)
    report = Report("does a step fit a card of 24 GB?", "steps", settings)
    for size, parts in settings["steps"]:
        recipe, cache = open_cache(folder / "cache", max_steps=3, **changes)
        module = build_module(cache, recipe)
        module.recipe = replace(recipe, grad_cache=parts)
        small = held_batch(cache, torch.device("cpu"))
        peak = (allocated if device.type == "cuda" else counted)(module, small, size, settings.get("bank", 0))
        in_parts = "" if parts == 1 else f" in {parts} parts"
        how = "peak" if device.type == "cuda" else "live at a time, counted"
        fits = Spread.of([CARD_BYTES / peak])
        judged = parts > 1 or all(other == 1 for _, other in settings["steps"])
        compared = f"24 GB over a step of batch {size}{in_parts}"
        report.figures.append(Figure(compared, f"{peak / 1e9:.1f} GB {how}", fits, 1.0 if judged else None))
    return report


def allocated(module: Distillation, small: Batch, size: int, bank: int) -> float:
    """Bytes that torch had allocated on the GPU at most during two steps; infinity where they did not fit."""
    device = the_device()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        stepper(module, device)([repeated(small, size, bank).to(device)] * 2)
    except torch.cuda.OutOfMemoryError:
        return float("inf")
    return float(torch.cuda.max_memory_allocated(device))


def counted(module: Distillation, small: Batch, size: int, bank: int) -> float:
    """Bytes that are live at most during a step, of tensors without values.

    A step on a small batch goes before, in which AdamW makes its moments.
    """
    module.inputs = uncut(module.inputs)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        without_values(module, mode)
        first, batch = repeated(small, len(small.samples), bank), repeated(small, size, bank)
        return float(peak_of(module, batch, lambda: stepper(module, torch.device("cpu"))([first, batch])))


@dataclass(frozen=True)
class Uncut(TextInput):
    """Captions as long as they may be: tensors without values cannot tell the longest."""

    def cut(self, fields: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """All tokens."""
        return fields


def uncut(inputs: Any) -> Any:
    """The same input, with captions of the most tokens."""
    return replace(inputs, text=Uncut(**vars(inputs.text))) if isinstance(inputs, PairInput) else inputs


def repeated(small: Batch, size: int, bank: int) -> Batch:
    """A batch of `size` samples with a bank of so many rows, those of `small` again and again."""

    def grown(arrays: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        return {name: rows[torch.arange(count) % len(rows)] for name, rows in arrays.items()}

    def reading(count: int) -> list[Reading]:
        return [Reading(np.zeros(count, np.int64), 0)]

    return Batch(
        reading(size),
        grown(small.fields, size),
        None,
        {name: grown(arrays, size) for name, arrays in small.targets.items()},
        {name: reading(bank) for name in small.banks},
        {name: grown(arrays, bank) for name, arrays in small.banks.items()},
    )


if __name__ == "__main__":
    run(measure, "memory", cases=list(CASES))
