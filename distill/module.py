"""Module: decode -> student -> objective, as one LightningModule."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import lightning
import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.holding import Holding
from distill.optimiser import make_optimiser, rate_factor
from distill.parts import loss_in_parts, outputs_in_parts
from distill.recipe import Recipe
from distill.students import Student
from distill.terms import BoundTerm
from shards.decode import decode_readings
from shards.draws import draw_seed
from shards.loader import Batch


class Distillation(lightning.LightningModule):
    """Trains `student` on weighted target sets, and on the labels by the recipe's share of them."""

    teacher_forwards = 0
    """Samples that a teacher saw during this attempt, on this rank; a cache needs none."""
    num_bytes_moved, num_parts_seen = 0, 0
    """Bytes of the training batches of this attempt on this rank, encoded as the device gets them, and their number."""
    most_samples: int | None = None
    """Samples that --max_memory lets the student hold activations of at a time; None: all."""

    def __init__(
        self,
        *,
        student: Student,
        recipe: Recipe,
        terms: Sequence[BoundTerm],
        holding: Holding,
        validation: Holding,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.student, self.exported = student.network, student
        self.recipe, self.total_steps = recipe, total_steps
        self.terms = tuple(terms)
        self.losses = nn.ModuleList(term.objective for term in terms if isinstance(term.objective, nn.Module))
        """Those with parameters of their own: learned temperatures."""
        self.fed = [targetset.identity["teacher"]["preprocessing"] for targetset in holding.targetsets]
        self.codecs, self.validation_codecs = holding.codecs(), validation.codecs()
        self.inputs = student.inputs
        self.training_sets = [targetset.folder.name for targetset in holding.targetsets]
        self.validation_sets = [targetset.folder.name for targetset in validation.targetsets]
        self.validation_names = [component.viewset.folder.name for component in validation.components]

    def targets(self, batch: Batch, names: list[str], codecs: list[Any]) -> list[Any]:
        """Each target set's decoded target, on the batch's device; what LiveDistillation replaces by a teacher.

        `codecs` has a list for each target set: the codec of each component.
        """
        stored = [batch.targets[name] for name in names]
        return [decode_readings(each, rows, batch.readings) for each, rows in zip(codecs, stored, strict=True)]

    def banks(self, batch: Batch) -> dict[int, Any]:
        """The decoded target of further samples, by the number of the target set; empty where the batch has none."""
        names = enumerate(self.training_sets)
        return {
            number: decode_readings(self.codecs[number], batch.banks[name], batch.bank_readings[name])
            for number, name in names
            if name in batch.banks
        }

    def met(self, batch: Batch, validating: bool) -> tuple[list[Any], list[Any]]:
        """The decoded targets, of the validation split when `validating`; and what they are to the student."""
        sets = (self.validation_sets, self.validation_codecs) if validating else (self.training_sets, self.codecs)
        whole = self.targets(batch, *sets)
        return whole, [self.inputs.target(rows, batch.fields, fed) for rows, fed in zip(whole, self.fed, strict=True)]

    def each_loss(self, batch: Batch, validating: bool) -> list[Float[Tensor, ""]]:
        """The recipe's terms on one batch, weighted."""
        targets, met = self.met(batch, validating)
        outputs, banks = self.student_outputs(self.inputs.beside(batch.fields, targets, self.fed)), self.banks(batch)
        return [term(outputs, met, batch.labels, banks) for term in self.terms]

    def loss(self, batch: Batch, validating: bool = False) -> Float[Tensor, ""]:
        """The sum of the recipe's terms on one batch."""
        return loss_in_parts(self, batch, validating)

    def student_outputs(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The student's outputs for a batch of fields."""
        return outputs_in_parts(self, fields)

    def training_step(self, batch: Batch, batch_index: int) -> Float[Tensor, ""]:
        """One forward; Lightning does the rest."""
        part = batch_index % self.recipe.accumulate * self.trainer.world_size + self.trainer.global_rank
        # dropout depends on seed, step and part alone: a resumed run draws what the uninterrupted one would have drawn
        torch.manual_seed(draw_seed(self.recipe.seed, self.trainer.global_step, part))
        loss = self.loss(batch)
        self.num_bytes_moved += batch.num_bytes
        self.num_parts_seen += 1
        return loss

    def bytes_a_step(self) -> int:
        """Bytes that one optimiser step moved to all devices together, as counted; 0 where this attempt did none."""
        parts = self.recipe.accumulate * self.trainer.world_size
        return self.num_bytes_moved * parts // max(1, self.num_parts_seen)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """After the last step Lightning is told to stop: it then validates, wherever in an epoch that step fell."""
        if self.trainer.global_step >= self.total_steps:
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        """Every rank validates the very student that is exported: rank 0's, batch statistics included."""
        shape = len(self.validation_names), 2
        self.validation_sums = torch.zeros(shape, dtype=torch.float64, device=self.device)
        if self.trainer.world_size > 1:
            for buffer in self.student.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """The same loss on held-out samples."""
        count, (reading,) = len(batch.samples), batch.readings
        self.validation_sums[reading.component] += torch.stack(
            [self.loss(batch, validating=True) * count, self.validation_sums.new_tensor(count)]
        )

    def on_validation_epoch_end(self) -> None:
        """`val_loss` is the mean over all validation samples, whatever their split into batches and ranks.

        Not by Lightning's sync_dist, which rounds the mean number of samples a rank down to a whole one.
        """
        sums = self.trainer.strategy.reduce(self.validation_sums, reduce_op="sum")
        total, count = sums.sum(0)
        self.log("val_loss", (total / count).float())
        for name, (part, part_count) in zip(self.validation_names, sums, strict=True):
            if part_count:
                self.log(f"val_loss/{name}", (part / part_count).float())

    def configure_optimizers(self) -> Any:
        """AdamW, its learning rate set anew at each optimiser step."""
        optimiser = make_optimiser(self, self.recipe)
        factor = partial(rate_factor, warmup=self.recipe.warmup, total_steps=self.total_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
