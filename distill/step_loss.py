"""Step loss: what an optimiser step went down by: the loss of the whole batch, of all its parts on all ranks."""

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback


class StepLoss(Callback):
    """Logs `train_loss`, the mean of the losses that the parts of a batch had, wherever they were computed.

    Where texts are padded a part's loss is already weighed by its tokens (`distill/parts.py`), so that the mean is that
    of the batch.
    """

    def __init__(self) -> None:
        self.parts: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One part more; the last of a step tells."""
        self.parts.append(outputs["loss"])  # over the number of parts already
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        whole, self.parts = torch.stack(self.parts).sum(), []
        if trainer.world_size > 1:  # nothing waits for it but the log
            torch.distributed.all_reduce(whole)
        pl_module.log("train_loss", whole / trainer.world_size)
