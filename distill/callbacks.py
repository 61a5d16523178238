"""Callbacks: progress over optimiser steps, and the seconds that all attempts of a run took together."""

import time
from typing import Any

from lightning.pytorch.callbacks import Callback

from shards.command.progress import Progress


class ProgressLines(Callback):
    """Progress over optimiser steps, on the first rank."""

    progress: Progress | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin at the step that a checkpoint resumed."""
        if trainer.is_global_zero:
            if trainer.global_step:
                print(f"distill: resumes at step {trainer.global_step:,} of {pl_module.total_steps:,}", flush=True)
            self.progress = Progress("distill", pl_module.total_steps - trainer.global_step, "steps").__enter__()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One more step, once its parts are accumulated."""
        if self.progress is not None and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.progress.advance()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The bar goes away."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The bar goes away, so that the error can be read."""
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)
            self.progress = None


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
