"""Trainer: Lightning's, set up from a recipe, with progress over optimiser steps and the time that they took."""

import logging
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from distill.checkpoints import DurableCheckpoints
from distill.data import CacheData
from distill.module import Distillation
from distill.ranks import is_rank, start_others
from distill.recipe import Recipe
from distill.step_loss import StepLoss
from shards.command.devices import Devices, parse_devices
from shards.command.progress import Progress
from shards.command.run import starting_children
from shards.errors import BadInput

PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def is_first_process() -> bool:
    """Whether this is the process that the user started (rank 0); what is printed and written is its work alone."""
    return rank() == 0


def rank() -> int:
    """This process's number among those of the run."""
    return int(rank_zero_only.rank)  # type: ignore[attr-defined]


def choose_devices(devices: str, precision: str) -> Devices:
    """What --devices names; BadInput where it does not train in that precision."""
    chosen = parse_devices("devices", devices)
    if precision == "float16" and chosen.kind == "cpu":
        raise BadInput("--precision float16: needs a GPU; give float32, or bfloat16, which a CPU can do")
    return chosen


def make_trainer(
    devices: Devices, recipe: Recipe, run_dir: Path, callbacks: list[Any], loggers: Sequence[Logger]
) -> lightning.Trainer:
    """Lightning's trainer for a recipe."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    return lightning.Trainer(
        accelerator=devices.kind,
        devices=list(devices.indices) if devices.kind == "cuda" else len(devices.indices),
        strategy="ddp" if len(devices.indices) > 1 else "auto",
        precision=PRECISION[recipe.precision],  # type: ignore[arg-type]
        plugins=[DurableCheckpoints(), *([LightningEnvironment()] if is_rank() else [])],  # whatever else it finds
        max_epochs=-1 if recipe.max_steps else recipe.epochs,
        max_steps=recipe.max_steps or -1,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip_norm,
        callbacks=[*callbacks, StepLoss(), ProgressLines()],
        logger=list(loggers),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run_dir,
    )


def fit(trainer: lightning.Trainer, module: Distillation, data: CacheData, checkpoint: Path | None) -> None:
    """Every step is done; KeyboardInterrupt where a signal (SIGINT, SIGTERM) ended the run before.

    Lightning exits on SIGINT as for an error of its own, and on SIGTERM as if all were done.
    """
    try:
        start_others()
        with starting_children():  # the other ranks, where Lightning starts them
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException:
        raise KeyboardInterrupt from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


class ProgressLines(Callback):
    """Progress over optimiser steps, on the first rank."""

    progress: Progress | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin at the step that a checkpoint resumed."""
        if is_rank():  # Lightning's handler begins a collective of its own amid those of the step
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if trainer.is_global_zero:
            if trainer.global_step:
                print(f"distill: resumes at step {trainer.global_step:,} of {pl_module.total_steps:,}", flush=True)
            self.progress = Progress("distill", pl_module.total_steps - trainer.global_step, "steps").__enter__()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One more step, once its parts are accumulated."""
        if self.progress is not None and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.progress.advance()

    def on_train_end(self, *arguments: Any) -> None:
        """The bar goes away, and what follows is printed below."""
        if self.progress is not None:
            self.progress.__exit__(None, None, None)
            self.progress = None

    def on_exception(self, *arguments: Any) -> None:
        """As at the end, so that the error can be read."""
        self.on_train_end()


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
