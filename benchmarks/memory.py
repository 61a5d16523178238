"""Memory: does a step of a large student fit a card of 24 GB, and a contrastive batch of 4,096 in parts?

Without a teacher beside it the student has the card to itself. On a GPU the process is capped at 24 GB and makes steps;
reported is the peak of what torch allocated. On a CPU the same steps run on tensors without values, and all bytes that
are live at a time are counted: weights, gradients, AdamW's moments, the batch, what autograd keeps and what one
operation hands to the next (`distill.memory`); what a kernel takes for itself comes on top.
Limit: 24 GB.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.materials import material as material_of
from benchmarks.measure import Figure, Report, Sizes, Spread, run, settings_here, the_device
from benchmarks.steps import held_batch, open_cache, with_bank
from benchmarks.synthetic import views_of, write_targets
from distill.memory import counted, repeated, stepper
from distill.module import Distillation
from distill.run import build_module
from extract.memory import cap_device
from shards.loader import Batch

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
    cap_device(CARD_BYTES, device)
    report = Report("does a step fit a card of 24 GB?", "steps", settings)
    for size, parts in settings["steps"]:
        recipe, cache = open_cache(folder / "cache", max_steps=3, **changes)
        module = build_module(cache, recipe)
        module.recipe = replace(recipe, grad_cache=parts)
        small = held_batch(cache, torch.device("cpu"))
        banks = dict.fromkeys(small.banks, settings.get("bank", 0))
        peak = (allocated if device.type == "cuda" else counted)(module, small, size, banks)
        in_parts = "" if parts == 1 else f" in {parts} parts"
        how = "peak" if device.type == "cuda" else "live at a time, counted"
        fits = Spread.of([CARD_BYTES / peak])
        judged = parts > 1 or all(other == 1 for _, other in settings["steps"])
        compared = f"24 GB over a step of batch {size}{in_parts}"
        report.figures.append(Figure(compared, f"{peak / 1e9:.1f} GB {how}", fits, 1.0 if judged else None))
    return report


def allocated(module: Distillation, small: Batch, size: int, banks: Mapping[str, int]) -> float:
    """Bytes that torch had allocated on the GPU at most during two steps; infinity where they did not fit."""
    device = the_device()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        stepper(module, device)([repeated(small, size, banks).to(device)] * 2)
    except torch.cuda.OutOfMemoryError:
        return float("inf")
    return float(torch.cuda.max_memory_allocated(device))


if __name__ == "__main__":
    run(measure, "memory", cases=list(CASES))
