"""Checkpoints: last.ckpt, Lightning's, holds all that a resumed run needs; best.safetensors the best student."""

import io
import json
import math
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from safetensors import SafetensorError
from safetensors.torch import load, save

from shards.archive import is_archive
from shards.commit import write_atomically
from shards.errors import BadInput, Damaged

LAST, BEST = "last.ckpt", "best.safetensors"


class DurableCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, whole or not at all: Lightning itself copies from /tmp, which may be another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """`path` holds the checkpoint, durably."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getbuffer())


class Checkpoints(Checkpoint):
    """Saves last.ckpt every `every` optimiser steps and at each epoch's end, and the student of least val_loss."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self.saved_step = 0
        self.best_loss = read_best(folder)[0] if (folder / BEST).exists() else math.inf

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save where it is due, or where the machine is about to be taken away (SIGTERM).

        Never among the parts of a batch, nor before an epoch's validation, which Lightning would leave out on resuming.
        """
        step = trainer.global_step
        is_whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = batch_idx + 1 == trainer.num_training_batches or step >= pl_module.total_steps
        # a signal may have reached one rank only, and saving is done by all of them together
        is_leaving = trainer.received_sigterm and trainer.world_size == 1
        if is_whole and not is_last and step > self.saved_step and (step % self.every == 0 or is_leaving):
            self._save(trainer, pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The step that was just saved is written to the logs: Lightning logs a step after it is saved."""
        if trainer.global_step == self.saved_step:
            _flush(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the student where no earlier one had so small a loss."""
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            raise BadInput(f"the validation loss is {loss} at step {trainer.global_step}: {_REMEDY}")
        if loss < self.best_loss:
            self.best_loss = loss
            if trainer.is_global_zero:
                # one entry, as safetensors writes several in any order and the bytes would not be reproducible
                facts = {"best": json.dumps({"val_loss": loss, "step": trainer.global_step})}
                state = {
                    name: value.cpu().contiguous().clone() for name, value in pl_module.student.state_dict().items()
                }
                write_atomically(self.folder / BEST, save(state, facts))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save, after the epoch's validation."""
        self._save(trainer, pl_module)

    def _save(self, trainer: Any, pl_module: Any) -> None:
        # gradients are shared by the ranks, so all of them see this and none is left waiting
        if not all(torch.isfinite(parameter).all() for parameter in pl_module.student.parameters()):
            raise BadInput(f"the student's weights hold NaN or infinity at step {trainer.global_step}: {_REMEDY}")
        trainer.save_checkpoint(self.folder / LAST)
        self.saved_step = trainer.global_step
        _flush(trainer)


def _flush(trainer: Any) -> None:
    # what was measured before a checkpoint is never measured again
    for logger in trainer.loggers:
        logger.save()


_REMEDY = "train again with a lower --lr, --precision float32 or a recipe with a longer warmup, and another --run_dir"


def resumable(folder: Path) -> Path | None:
    """The checkpoint to go on from, None without one; Damaged when it is cut short."""
    path = folder / LAST
    if not path.exists():
        return None
    if not is_archive(path):
        raise Damaged(f"{path}: is no whole checkpoint; remove it to train from the beginning")
    return path


def read_best(folder: Path) -> tuple[float, int, dict[str, torch.Tensor]]:
    """The validation loss, the optimiser step and the weights of the best student so far."""
    path = folder / BEST
    try:
        content = path.read_bytes()  # of a path the library takes UTF-8 alone
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header["__metadata__"]["best"])
        return float(facts["val_loss"]), int(facts["step"]), load(content)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path}: cannot be read ({error}); remove the run's folder to train it again") from None
