"""The flags of `python -m distill`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shards.bill.options import AS_FLAGS
from shards.command.arguments import Aliases, Hidden, options_as_flags
from shards.command.ranges import SHARE, Count, NotNegative, Options, Positive, Precision, Seed, Share
from shards.errors import BadInput
from shards.plain_yaml import read_yaml

DESCRIPTION = (
    "Distil a student from a cache. --shards is enough: what the cache holds picks the recipe. The same command "
    "resumes an interrupted run exactly where its last checkpoint was, in mid-epoch too."
)


@dataclass(frozen=True)
class DistillConfig:
    """What to train on and how; flags left out come from the recipe."""

    shards: str
    """The cache, or one view set or target set of it; several that train as one: A,B in proportion to their samples,
    or A=2,B=1 by shares."""
    recipe: str | None = None
    """A recipe's name, or a YAML file of one (default: the one that fits the cache)."""
    run_dir: str | None = None
    """Where the run goes (default: runs/RECIPE-STUDENT)."""
    targets: str | None = None
    """Which target sets, by any part of their names, with weights: resnet101=0.7,resnet50=0.3
    (default: the only one)."""
    student: str | None = None
    """The network to train, with its arguments: resnet50, resnet8:width=32, timm:NAME (timm:resnet18:drop_rate=0.1), or
    data2vec2:depth=6 (depth, width and heads; the teacher's width and heads where left out)."""
    init: str | None = None
    """Where the student starts: teacher (its first blocks, from the weights that were extracted with), FILE (the same
    weights at another place), or random."""
    objective: str | None = None
    """The loss, with its arguments: kl:temperature=2 on logits; mse, smooth_l1:beta=1 or cosine on features;
    supervised on labels. With label_weight=SHARE among them, or alone beside the recipe's own loss, that share of
    the loss is cross-entropy with the labels."""
    label_weight: Share | None = None
    """SHARE of --objective label_weight=SHARE."""
    epochs: Count | None = None
    """Passes over the samples; epoch e sees view e mod V (default: the recipe's; more where a cache is small)."""
    max_steps: Count | None = None
    """Stop after so many optimiser steps instead."""
    batch_size: Count | None = None
    """Samples an optimiser step, over all devices and accumulation."""
    accumulate: Count | None = None
    """The recipe's field of this name: each batch in so many parts."""
    max_memory: str | None = None
    """Cap each process, as 24GB: a batch is cut into the fewest parts whose step is counted to fit, and stays the batch
    that it is; a GPU gives no more than that."""
    lr: Positive | None = None
    """AdamW's peak learning rate (default: the recipe's, or what suits the student and the batch)."""
    weight_decay: NotNegative | None = None
    """AdamW's weight decay; none on biases, norms, positions and CLS."""
    precision: Precision | None = None
    """The student's arithmetic: float32, or bfloat16 or float16 by autocast."""
    read: str | None = None
    """How the cache is read: check=always (a row's checksum whenever it is read: the default) or check=once (rows of
    arrays in a folder by the first reading alone); of a bucket local_cache=50GB, what its rows may take of the disk
    (default: that, or half of what is free; --local_cache 50GB says it too). views_a_batch=4 puts 4 views of a sample
    into each batch, so that an image that views are rendered from is decoded once for them (default: 1). Of a cache
    with store=none from elsewhere
    data=SCHEME:PATH, as extract's --data (and data_dir=PATH): where its original images are; of several such sets data=
    for each."""
    on_missing: str | None = None
    """Extract what the cache lacks while training on what it has: 'extract --data digits --teacher NAME ...', a command
    of extract without --out (--shards is where it goes), or extract alone to complete a set that is half written."""
    devices: str = "auto"
    """auto (all GPUs, else the CPU), cpu, cuda, cuda:N, or a number of devices (DDP)."""
    seed: Seed | None = None
    """Of the student's initial weights and of the order of samples."""
    logger: str = "csv"
    """Where losses and pictures of validation examples go beside RUN/logs (csv, which is always written): tensorboard,
    trackio or wandb (offline when there is no login), several separated by commas."""
    plan: Options = None
    """Say what this will cost, and train nothing: probe this machine (seconds=60, about), then print bytes, files,
    hours, cost (dollars_per_hour=0.75), bottleneck, memory, and when the cache beats the teacher in the loop.
    device_profile=rtx4090, a100, h100 or h200 predicts that card; save=FILE keeps the plan as JSON, RUN_DIR.plan.json
    beside what happens then. --device_profile and --dollars_per_hour are flags too, which ask for a plan."""


def unfolded(config: DistillConfig) -> DistillConfig:
    """`config` with the label_weight=SHARE of its --objective as its --label_weight.

    BadInput where that is no share, or stands there twice.
    """
    objective, text = _split_label_weight(config.objective or "")
    if text is None:
        return config
    where = f"--objective {config.objective}: label_weight"
    if _split_label_weight(objective or "")[1] is not None or config.label_weight is not None:
        raise BadInput(f"{where} is given twice; give it once")
    try:
        share = float(text)
    except ValueError:
        raise BadInput(f"{where} {text}: expected {SHARE.expected}") from None
    SHARE.check(where, share)
    return replace(config, objective=objective, label_weight=share)


def _split_label_weight(objective: str) -> tuple[str | None, str | None]:
    """An objective without its first label_weight=SHARE, which may stand alone; and SHARE."""
    name, colon, rest = objective.partition(":")
    options = rest.split(",") if colon else [name]
    weights = [option for option in options if option.startswith(_LABEL_WEIGHT)]
    if not weights:
        return objective or None, None
    options.remove(weights[0])
    others = f"{name}:{','.join(options)}".removesuffix(":") if colon else None
    return others, weights[0].removeprefix(_LABEL_WEIGHT)


_LABEL_WEIGHT = "label_weight="


def _without_former(values: dict[str, str]) -> str:
    for name, value in values.items():
        if (name, value.lower()) != ("compile", "false"):
            raise BadInput(
                f"--{name}: is a field of the recipe now: write {name}: {value} in a recipe and leave it out here"
            )
    return "check=always"


def _in_recipe(content: dict[str, Any], name: str) -> bool:
    """Whether the recipe's file that a configuration names, as saved ones do, has the same value of a former flag."""
    path = Path(str(content.get("recipe")))
    try:
        recipe = read_yaml(path.read_bytes()) if path.suffix == ".yaml" and path.is_file() else {}
    except ValueError:  # said where the recipe itself is read
        return False
    return isinstance(recipe, dict) and recipe.get(name) == content[name]


def _with_wandb(values: dict[str, str]) -> str:
    given = values["wandb"].lower()
    if given not in ("true", "false"):
        raise BadInput(f"--wandb {given}: expected true or false; --logger wandb is what it means now")
    names = [name for name in values.get("logger", "csv").split(",") if name != "wandb"]
    return ",".join(names if given == "false" else [*names, "wandb"]) or "csv"


ALIASES = (
    Aliases(("compile", "warmup"), "read", _without_former, _in_recipe),
    Aliases(("wandb",), "logger", _with_wandb, joins=True, switches=("wandb",)),
    options_as_flags("read", "local_cache"),
    AS_FLAGS,
)
"""Former flags, which the saved configurations of earlier runs hold; and options of --read and --plan."""
HIDDEN = {"label_weight": Hidden("objective", _split_label_weight), "accumulate": None}
"""Flags that --help leaves out, and those that say the same; the recipe says what none does."""
