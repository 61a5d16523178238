"""The flags of `python -m distill`."""

from dataclasses import dataclass

DESCRIPTION = (
    "Distil a student from a cache. --shards is enough: what the cache holds picks the recipe. The same command "
    "resumes an interrupted run exactly where its last checkpoint was, in mid-epoch too."
)


@dataclass(frozen=True)
class DistillConfig:
    """What to train on and how; flags left out come from the recipe."""

    shards: str
    """The cache, or one view set or target set of it."""
    recipe: str | None = None
    """A recipe's name, or a YAML file of one (default: the one that fits the cache)."""
    run_dir: str | None = None
    """Where the run goes (default: runs/RECIPE-STUDENT)."""
    targets: str | None = None
    """Which target sets, by any part of their names, with weights: resnet101=0.7,resnet50=0.3
    (default: the only one)."""
    student: str | None = None
    """The network to train, with its arguments: resnet50, resnet8:width=32, or data2vec2:depth=6 (depth, width and
    heads; the teacher's width and heads where left out)."""
    init: str | None = None
    """Where the student starts: teacher (its first blocks, from the weights that were extracted with), FILE (the same
    weights at another place), or random."""
    objective: str | None = None
    """The loss, with its arguments: kl:temperature=2 on logits; mse, smooth_l1:beta=1 or cosine on features;
    supervised on labels."""
    label_weight: float | None = None
    """Share of cross-entropy with the labels in the loss, 0 to 1."""
    epochs: int | None = None
    """Passes over the samples; epoch e sees view e mod V (default: the recipe's; more where a cache is small)."""
    max_steps: int | None = None
    """Stop after so many optimiser steps instead."""
    batch_size: int | None = None
    """Samples an optimiser step, over all devices and accumulation."""
    accumulate: int | None = None
    """Cut each batch into so many parts, to fit the memory."""
    lr: float | None = None
    """AdamW's peak learning rate (default: the recipe's, or what suits the student and the batch)."""
    weight_decay: float | None = None
    """AdamW's weight decay; none on biases, norms, positions and CLS."""
    warmup: float | None = None
    """Share of the steps over which the learning rate rises linearly, before its cosine to zero."""
    precision: str | None = None
    """float32, bfloat16 or float16 (mixed)."""
    compile: bool | None = None
    """Compile the student with torch.compile."""
    devices: str = "auto"
    """auto (all GPUs, else the CPU), cpu, cuda, or a number of devices (DDP)."""
    seed: int | None = None
    """Of the student's initial weights and of the order of samples."""
    wandb: bool = False
    """Log to Weights & Biases too; offline when there is no login."""
