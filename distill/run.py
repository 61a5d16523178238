"""Run: one training from a cache to an exported student, in a folder that says all about it."""

import json
import logging
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger

from distill.config import DistillConfig
from distill.data import CacheData, Holding, cache_identity
from distill.module import Distillation
from distill.objectives import make_objective
from distill.recipe import Recipe, as_values
from distill.students import build_student, parse_student
from extract.networks import export_network
from shards.arguments import as_yaml
from shards.commit import write_atomically
from shards.errors import BadInput, IdentityMismatch
from shards.identity import differences, identity_hash
from shards.progress import Progress

LIGHTNING_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def build_module(data: CacheData, recipe: Recipe) -> Distillation:
    """The module for a run over `data`: a seeded student with as many classes as the targets or labels have."""
    holding = data.training
    class_names = holding.viewset.class_names
    sizes = {targetset.row_shape[0] for targetset in holding.targetsets} or {len(class_names or [])}
    if len(sizes) > 1:
        raise BadInput(
            f"--targets: the teachers have {sorted(sizes)} classes; distil from teachers of one set of classes"
        )
    num_classes = sizes.pop()
    objective = make_objective(recipe.objective, recipe.temperature)
    labels = make_objective("supervised", 1.0) if recipe.label_weight > 0 else None
    for targetset in holding.targetsets:
        if targetset.manifest["target"] != objective.target:
            found = f"{targetset.folder.name} holds {targetset.manifest['target']}"
            raise BadInput(f"--targets: objective {recipe.objective} needs {objective.target}, {found}; name another")
    if labels and (class_names is None or len(class_names) != num_classes):
        raise BadInput(
            f"--label_weight {recipe.label_weight}: the samples have no labels for the teacher's classes; use 0"
        )
    preprocessing = normalisation(holding)
    lightning.seed_everything(recipe.seed, verbose=False)
    student = build_student(recipe.student, num_classes)
    if recipe.compile:
        student.compile()
    steps = recipe.max_steps or recipe.epochs * data.order(recipe.accumulate).num_batches
    return Distillation(student, recipe, objective, labels, holding.codecs(), holding.weights, *preprocessing, steps)


def normalisation(holding: Holding) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the first teacher's input; ImageNet's without a teacher."""
    if not holding.targetsets:
        return IMAGENET_MEAN, IMAGENET_STD
    preprocessing = holding.targetsets[0].identity["teacher"]["preprocessing"]
    return list(preprocessing["mean"]), list(preprocessing["std"])


def train(config: DistillConfig, recipe: Recipe, data: CacheData, run_dir: Path) -> dict[str, Any]:
    """The run in `run_dir` is finished, resumed from its last checkpoint if it had one; returns its summary."""
    begin(run_dir, config, recipe, data.training)
    if (run_dir / "summary.json").exists():
        return {**json.loads((run_dir / "summary.json").read_text()), "already_finished": True}
    module = build_module(data, recipe)
    elapsed, checkpoints = Elapsed(), run_dir / "checkpoints"
    has_validation = len(data.validation_samples) > 0
    last = ModelCheckpoint(
        checkpoints, "last", every_n_train_steps=recipe.checkpoint_every, enable_version_counter=False
    )
    ended = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    best = ModelCheckpoint(checkpoints, "best", monitor="val_loss", enable_version_counter=False)
    callbacks = [elapsed, last, ended, *([best] if has_validation else [])]
    trainer = make_trainer(config, recipe, run_dir, callbacks, data)
    resume = checkpoints / "last.ckpt"
    trainer.fit(module, data, ckpt_path=resume if resume.exists() else None, weights_only=True)
    if has_validation and best.best_model_path:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        best_step, best_loss = state["global_step"], float(best.best_model_score)  # type: ignore[arg-type]
    else:
        best_step, best_loss = trainer.global_step, None
    summary = {
        "recipe": recipe.name,
        "student": recipe.student,
        "num_parameters": sum(parameter.numel() for parameter in module.student.parameters()),
        "seconds": round(elapsed.seconds(), 1),
        "steps": trainer.global_step,
        "teacher_forwards": module.teacher_forwards,
        "cache_bytes": data.training.num_bytes,
        "best_val_loss": best_loss,
        "best_step": best_step,
        "cache": str(data.training.viewset.folder.parent),
        "viewset": data.training.viewset.folder.name,
        "targetsets": [targetset.folder.name for targetset in data.training.targetsets],
        "git_revision": git_revision(),
    }
    if trainer.is_global_zero:
        export(run_dir, module, recipe, data)
        write_atomically(run_dir / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def begin(run_dir: Path, config: DistillConfig, recipe: Recipe, holding: Holding) -> None:
    """The run's configuration is in its folder; IdentityMismatch when another run is there already."""
    asked = {"recipe": as_values(recipe), "cache": cache_identity(holding), "weights": holding.weights}
    path = run_dir / "run.json"
    if path.exists():
        found = "; ".join(differences(json.loads(path.read_text()), asked)).replace("the cache has", "the run has")
        if found:
            raise IdentityMismatch(f"--run_dir {run_dir} holds another run: {found}; give another --run_dir")
        return
    if run_dir.exists() and any(run_dir.iterdir()):
        raise BadInput(f"--run_dir {run_dir}: is not empty and holds no run; give another folder")
    write_atomically(run_dir / "recipe.yaml", as_yaml(as_values(recipe)))
    given = {**asdict(config), "recipe": str(run_dir / "recipe.yaml"), "run_dir": str(run_dir)}
    write_atomically(run_dir / "config.yaml", as_yaml(given))
    write_atomically(path, json.dumps(asked, indent=1).encode())


def make_trainer(
    config: DistillConfig, recipe: Recipe, run_dir: Path, callbacks: list[Any], data: CacheData
) -> lightning.Trainer:
    """Lightning's trainer for a recipe, quiet but for our progress."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    accelerator, devices = parse_devices(config.devices)
    loggers: list[Logger] = [CSVLogger(run_dir, name="logs")]
    if config.wandb:
        from distill.wandb_logging import wandb_logger

        loggers.append(
            wandb_logger(run_dir, {**as_values(recipe), **cache_identity(data.training), "git": git_revision()})
        )
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=LIGHTNING_PRECISION[recipe.precision],  # type: ignore[arg-type]
        max_epochs=-1 if recipe.max_steps else recipe.epochs,
        max_steps=recipe.max_steps or -1,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip_norm,
        callbacks=[*callbacks, ProgressLines(recipe.accumulate)],
        logger=loggers,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run_dir,
    )


def parse_devices(devices: str) -> tuple[str, int]:
    """Lightning's accelerator and number of devices."""
    gpus = torch.cuda.device_count()
    if devices == "cpu" or (devices == "auto" and not gpus):
        return "cpu", 1
    if devices in ("auto", "cuda") and gpus:
        return "gpu", gpus
    if devices.isdecimal() and 1 <= int(devices) <= (gpus or 64):
        return ("gpu" if gpus else "cpu"), int(devices)
    raise BadInput(f"--devices {devices!r}: expected auto, cpu, cuda or a number; this machine has {gpus} GPUs")


class ProgressLines(Callback):
    """Progress over optimiser steps."""

    def __init__(self, accumulate: int) -> None:
        self.accumulate = accumulate

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin at the step that a checkpoint resumed."""
        self.progress = Progress("distill", pl_module.total_steps - trainer.global_step, "steps").__enter__()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One more step, once its parts are accumulated."""
        if trainer.is_global_zero and (batch_idx + 1) % self.accumulate == 0:
            self.progress.advance()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The bar goes away."""
        self.progress.__exit__(None, None, None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The bar goes away, so that the error can be read."""
        self.progress.__exit__(None, None, None)


class Elapsed(Callback):
    """Keeps the seconds trained so far in each checkpoint, so that a resumed run's summary counts them all."""

    def __init__(self) -> None:
        self.before, self.start = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Seconds of this and all earlier attempts, as far as checkpoints kept them."""
        return self.before + time.monotonic() - self.start

    def state_dict(self) -> dict[str, Any]:
        """Kept in each checkpoint."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.before = state_dict["seconds"]


def export(run_dir: Path, module: Distillation, recipe: Recipe, data: CacheData) -> None:
    """The student as safetensors + JSON, loadable without Lightning."""
    architecture, arguments = parse_student(recipe.student)
    viewset = data.training.viewset
    num_classes = module.student(torch.zeros(1, 3, viewset.image_size, viewset.image_size))["logits"].shape[1]
    names = viewset.class_names if viewset.class_names and len(viewset.class_names) == num_classes else None
    document = {
        "architecture": architecture,
        "arguments": arguments,
        "num_classes": num_classes,
        "image_size": viewset.image_size,
        "mean": module.mean,
        "std": module.std,
        "class_names": names,
        "cache": cache_identity(data.training),
    }
    export_network(run_dir, module.student, document)


def git_revision() -> str | None:
    """The commit of this project's checkout, with + when it has changes; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
