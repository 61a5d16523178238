"""Examples: the first validation views with what teacher and student say, as a picture for loggers that take one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from distill.module import Distillation
from distill.terms import LABELS, BoundTerm
from shards.class_names import logit_names
from shards.codecs.distribution import Distribution
from shards.contact_sheet import Cell, caption_of, contact_sheet, output_lines, teacher_lines
from shards.loader import Batch
from shards.reader import Component
from shards.views import view_codec

NUM_EXAMPLES = 12


class Examples(Callback):
    """Draws a contact sheet at each validation, of views that are looked at; texts have none."""

    def __init__(self, validation: Sequence[Component], pictures: Sequence[Callable[[Image.Image, int], None]]) -> None:
        self.validation, self.pictures = validation, pictures
        # as stored: a student may read no pixels
        self.viewsets = [each.viewset.read_by(view_codec(each.viewset.identity)) for each in validation]
        self.known: dict[Cell, list[str]] = {}
        """What is known of each view beside what the student says; it stays the same."""

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        """The first batch holds the views, as long as its step runs."""
        if batch_idx or not trainer.is_global_zero:
            return
        with trainer.precision_plugin.val_step_context():
            sheet = self._sheet(pl_module, batch)
        if sheet is not None:
            for picture in self.pictures:
                picture(sheet, trainer.global_step)

    def _sheet(self, module: Distillation, batch: Batch) -> Image.Image | None:
        (reading,) = batch.readings
        component, viewset = self.validation[reading.component], self.viewsets[reading.component]
        samples = reading.samples[:NUM_EXAMPLES]
        cells = [(reading.view, sample) for sample in samples.tolist()]
        if viewset.codec.picture(viewset.row(*cells[0])) is None:
            return None
        if not self.known:
            taught = [teacher_lines(viewset, targetset, samples, 1) for targetset in component.targetsets]
            for cell in cells:
                self.known[cell] = caption_of(viewset, *cell) + [line for lines in taught for line in lines[cell]]
        said = student_lines(module, batch, component, len(cells))
        return contact_sheet(viewset, {cell: self.known[cell] + lines for cell, lines in zip(cells, said, strict=True)})


def student_lines(module: Distillation, batch: Batch, component: Component, num: int) -> list[list[str]]:
    """Of each of the first `num` samples of a validation batch: the student's likeliest classes, or its cosine to each
    target of features, the mean over tokens that are content.
    """
    decoded, targets = module.met(batch, validating=True)
    # the whole batch: a compiled student would be compiled anew for another size
    outputs = module.student_outputs(module.inputs.beside(batch.fields, decoded, module.fed))
    lines: list[list[str]] = [[] for _ in range(num)]
    for term in {(term.of, term.to): term for term in module.terms}.values():
        for of_sample, further in zip(lines, _lines(term, outputs, targets, component, num), strict=False):
            of_sample += further
    return lines


def _lines(
    term: BoundTerm, outputs: dict[str, Tensor], targets: list[Any], component: Component, num: int
) -> list[list[str]]:
    output = outputs[term.of[0]][:num].float()
    if term.to == LABELS:
        return output_lines(output.cpu(), "logits", component.viewset.class_names, "student")
    if not isinstance(term.to, int):
        return []
    targetset, target = component.targetsets[term.to], targets[term.to][:num]
    name = targetset.manifest.target
    if name.endswith("logits") or isinstance(target.rows, Distribution):
        return output_lines(output.cpu(), "logits", logit_names(component.viewset, targetset), "student")
    compared = target.take_from(output)
    if compared.shape != target.rows.shape:
        return []
    cosines = torch.nn.functional.cosine_similarity(compared, target.rows.float(), dim=-1)
    if cosines.dim() > 1:
        valid = torch.ones_like(cosines) if target.valid is None else target.valid.to(cosines.dtype)
        cosines = (cosines * valid).sum(1) / valid.sum(1).clamp(min=1)
    return [[f"student: cosine {cosine:.3f} to {name}"] for cosine in cosines.tolist()]
