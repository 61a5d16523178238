"""Memory: does a step of `distil-data2vec2` fit a card of 24 GB, at batch 256 and 512?

Without a teacher beside it the student has the card to itself. On a GPU the process is capped at 24 GB and makes steps;
reported is the peak of what torch allocated. On a CPU the bytes that autograd keeps of a step's forward are counted at
two small batches and continued to the large ones, with weights, gradients and AdamW's moments added: temporary tensors
come on top of that.
Limit: 24 GB.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Figure, Report, Sizes, Spread, run, settings_here, the_device
from benchmarks.steps import held_batch, open_cache, stepper
from benchmarks.synthetic import views_of, write_photos, write_targets
from distill.module import Distillation
from distill.run import build_module
from shards.loader import Batch

CARD_BYTES = 24 * 10**9
STUDENT = {"student": "data2vec2:depth=6", "image_size": 224, "precision": "bfloat16"}
CASES: dict[str, Sizes] = {
    "int8": {
        "cpu": STUDENT | {"codec": "int8", "counted": (2, 4), "batch_sizes": (256, 512)},
        "cuda": STUDENT | {"codec": "int8", "counted": (), "batch_sizes": (256, 512)},
        "quick": STUDENT
        | {"student": "data2vec2:depth=1", "image_size": 56}
        | {"codec": "int8", "counted": (2, 4), "batch_sizes": (8,)},
    },
}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """The student's first 6 blocks from int8 layer means of 197 x 768, bfloat16 autocast."""
    settings, device = settings_here(CASES["int8"], options), the_device()
    data = write_photos(folder / "photos", max(settings["counted"] or settings["batch_sizes"]), 320, 256)
    write_targets(views_of(folder / "cache", data, f"size={settings['image_size']}"), "layer_mean", settings["codec"])
    changes = {name: settings[name] for name in ("student", "precision")} | {"recipe": "features"}

    def module_and_batch(batch_size: int) -> tuple[Distillation, Batch]:
        recipe, cache = open_cache(folder / "cache", batch_size=batch_size, max_steps=3, **changes)
        return build_module(cache, recipe), held_batch(cache, device)

    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(CARD_BYTES / torch.cuda.get_device_properties(0).total_memory)
        peaks = {size: _peak(*module_and_batch(size), device) for size in settings["batch_sizes"]}
    else:
        small, large = settings["counted"]
        kept = {size: _kept(*module_and_batch(size)) for size in (small, large)}
        a_sample = (kept[large] - kept[small]) / (large - small)
        fixed = kept[small] - small * a_sample + _state(module_and_batch(small)[0])
        peaks = {size: fixed + size * a_sample for size in settings["batch_sizes"]}
    report = Report("does a step fit a card of 24 GB?", "steps", settings)
    for size, peak in peaks.items():
        how = "peak" if device.type == "cuda" else "kept for the backward, counted"
        fits = Spread.of([CARD_BYTES / peak])
        report.figures.append(Figure(f"24 GB over a step of batch {size}", f"{peak / 1e9:.1f} GB {how}", fits, 1.0))
    return report


def _peak(module: Distillation, batch: Batch, device: torch.device) -> float:
    """Bytes that torch had allocated at most during three steps; infinity where they did not fit."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        stepper(module, device)([batch] * 3)
    except torch.cuda.OutOfMemoryError:
        return float("inf")
    return float(torch.cuda.max_memory_allocated(device))


def _kept(module: Distillation, batch: Batch) -> float:
    """Bytes of all storages that autograd keeps of one forward, the parameters' own left out."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in parameters:
            storages[place] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", getattr(torch, module.recipe.precision)):
        loss = module.loss(batch)
    total = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    loss.backward()  # what is kept is needed until here
    return float(total)


def _state(module: Distillation) -> float:
    """Bytes of weights, gradients and AdamW's two moments, all float32."""
    return float(4 * sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad))


if __name__ == "__main__":
    run(measure, "memory")
