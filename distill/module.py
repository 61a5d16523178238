"""Module: decode -> student -> objective, as one LightningModule."""

import math
from typing import Any

import lightning
import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.objectives.base import Objective
from distill.recipe import Recipe
from extract.normalise import normalise
from shards.loader import Batch


class Distillation(lightning.LightningModule):
    """Trains `student` on weighted target sets, and on the labels by the recipe's share of them."""

    def __init__(
        self,
        student: nn.Module,
        recipe: Recipe,
        objective: Objective,
        label_objective: Objective | None,
        codecs: list[Any],
        weights: list[float],
        mean: list[float],
        std: list[float],
        total_steps: int,
    ) -> None:
        super().__init__()
        self.student, self.recipe = student, recipe
        self.objective, self.label_objective = objective, label_objective
        self.codecs, self.weights = codecs, weights
        self.mean, self.std, self.total_steps = mean, std, total_steps
        self.teacher_forwards = 0
        """Samples that a teacher saw during this run; a cache needs none."""

    def targets(self, batch: Batch) -> list[Any]:
        """Each target set's decoded target, on the batch's device; what a live teacher would replace."""
        return [codec.decode(stored) for codec, stored in zip(self.codecs, batch.targets, strict=True)]

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The recipe's loss on one batch."""
        outputs = self.student(normalise(batch.images, self.mean, self.std))
        share = self.recipe.label_weight
        loss = torch.zeros((), device=batch.images.device)
        if self.weights:
            total = sum(self.weights)
            for weight, target in zip(self.weights, self.targets(batch), strict=True):
                loss = loss + (1 - share) * weight / total * self.objective(outputs, target, batch.labels)
        if self.label_objective is not None:
            loss = loss + share * self.label_objective(outputs, None, batch.labels)
        return loss

    def training_step(self, batch: Batch, batch_index: int) -> Float[Tensor, ""]:
        """One forward; Lightning does the rest."""
        loss = self.loss(batch)
        self.log("train_loss", loss.detach(), batch_size=len(batch.samples))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """The same loss on held-out samples; the best checkpoint is the one with the least."""
        self.log("val_loss", self.loss(batch), batch_size=len(batch.samples), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW without decay on biases, norms, positions and CLS; linear warm-up, then a cosine to zero."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(
            parameter_groups(self.student, recipe.weight_decay), lr=recipe.lr, betas=recipe.betas, eps=recipe.eps
        )
        warmup = max(1, round(recipe.warmup * self.total_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, self.total_steps - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: matrices and filters decay; vectors, positions and tokens do not."""
    decayed, plain = [], []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_table = any(word in name for word in ("position", "extra_tokens", "cls_token"))
            (plain if parameter.ndim < 2 or is_table else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
