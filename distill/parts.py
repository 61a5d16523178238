"""Parts: a batch's loss and gradients from some samples at a time, those of the whole batch but for rounding.

A term is a mean over what it compares: samples, or tokens that are no padding. Where texts are padded, the mean of the
parts' means is not that of the batch, so each part weighs as much as it counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.grad_cache import in_parts
from distill.recipe import Recipe
from distill.terms import BoundTerm
from extract.modalities.base import InputSpec, feed
from shards.codecs.features import Features
from shards.codecs.kept import POSITIONS, Kept
from shards.loader import Batch
from shards.order import Reading


@runtime_checkable
class Trained(Protocol):
    """What is asked of a `Distillation`, which imports this file."""

    student: nn.Module
    inputs: InputSpec
    recipe: Recipe
    terms: tuple[BoundTerm, ...]
    fed: list[Any]
    codecs: list[Any]
    validation_codecs: list[Any]
    training_sets: list[str]
    validation_sets: list[str]
    most_samples: int | None
    _trainer: Any

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of the student and of losses that learn."""
        ...

    def each_loss(self, batch: Batch, validating: bool) -> list[Tensor]:
        """The terms on a batch, weighted."""
        ...


def compares_samples(module: Trained) -> bool:
    """Whether a loss is between the samples of a batch, which it must see all at once."""
    return any(getattr(term.objective, "compares_samples", False) for term in module.terms)


def outputs_in_parts(module: Trained, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The student's outputs for `fields`, in the recipe's `grad_cache` parts, or more where `most_samples` says so."""
    num_parts = module.recipe.grad_cache if torch.is_grad_enabled() else 1
    if module.most_samples is not None:
        num_parts = max(num_parts, -(-len(next(iter(fields.values()))) // module.most_samples))
    if num_parts == 1:
        return feed(module.student, module.inputs, fields)
    return in_parts(module.student, module.inputs, fields, num_parts)


def loss_in_parts(module: Trained, batch: Batch, validating: bool) -> Float[Tensor, ""]:
    """The sum of the terms on `batch`, `most_samples` at a time where no loss compares them.

    The gradients of parts are taken one after the other, so that memory holds one part's activations; the backward pass
    of what is returned hands their sum on. Dropout is drawn part by part. Where ranks are given batches of padded texts
    the mean of their losses is that of the global batch.
    """
    learns, most = torch.is_grad_enabled(), module.most_samples or len(batch.samples)
    parts = [batch] if compares_samples(module) else list(cut(batch, most))
    padded = module.inputs.valid(batch.fields) is not None and not compares_samples(module)
    ranks = module._trainer.world_size if learns and module._trainer is not None else 1
    if len(parts) == 1 and (ranks == 1 or not padded):
        return reduce(torch.add, module.each_loss(batch, validating))
    counts = torch.stack([_counts(module, part, validating, padded) for part in parts])
    whole = counts.sum(0)
    if ranks > 1:
        torch.distributed.all_reduce(whole)
    shares = counts * ranks / whole
    if len(parts) == 1 or not learns:
        return reduce(torch.add, (_weighed(module, *each, validating) for each in zip(parts, shares, strict=True)))
    learnt, total = [each for each in module.parameters() if each.requires_grad], torch.zeros((), device=batch.device)
    scale, sums = _scale(module), list[Tensor | None]([None] * len(learnt))
    for part, share in zip(parts, shares, strict=True):
        loss = _weighed(module, part, share, validating)
        total = total + loss.detach()
        _add(sums, loss * scale, learnt)
    handed: Tensor = _Handed.apply(total, scale, sums, *learnt)
    return handed


def _weighed(module: Trained, part: Batch, shares: Float[Tensor, " terms"], validating: bool) -> Float[Tensor, ""]:
    """The sum of the terms on `part`, each by its share."""
    return reduce(torch.add, map(torch.mul, shares, module.each_loss(part, validating)))


def cut(batch: Batch, most: int) -> Iterator[Batch]:
    """The samples of `batch` in order, so many at a time; each part has the whole bank."""
    for start in range(0, len(batch.samples), most):
        rows = slice(start, start + most)
        yield Batch(
            _within(batch.readings, rows),
            {name: values[rows] for name, values in batch.fields.items()},
            None if batch.labels is None else batch.labels[rows],
            {name: {key: values[rows] for key, values in stored.items()} for name, stored in batch.targets.items()},
            batch.bank_readings,
            batch.banks,
        )


def _within(readings: Sequence[Reading], rows: slice) -> list[Reading]:
    """The readings of some rows of a batch."""
    found, first = [], 0
    for reading in readings:
        samples = reading.samples[max(0, rows.start - first) : max(0, rows.stop - first)]
        first += len(reading.samples)
        if len(samples):
            found.append(reading._replace(samples=samples))
    return found


def _counts(module: Trained, part: Batch, validating: bool, padded: bool) -> Float[Tensor, " terms"]:
    """What each term's mean on `part` is over: the tokens that are no padding of its target, else the samples."""
    samples = torch.full((), float(len(part.samples)), device=part.device)
    if not padded:
        return samples.expand(len(module.terms))
    valid = [target.valid for target in _outlines(module, part, validating)]
    content = [samples if tokens is None else tokens.sum().float() for tokens in valid]
    return torch.stack([content[term.to] if isinstance(term.to, int) else samples for term in module.terms])


def _outlines(module: Trained, part: Batch, validating: bool) -> Iterator[Features]:
    """The targets of `part` as the student meets them, without their vectors: nothing is decoded, no teacher asked."""
    names, codecs = module.training_sets, module.codecs
    if validating:
        names, codecs = module.validation_sets, module.validation_codecs
    for name, of_set, fed in zip(names, codecs, module.fed, strict=True):
        codec, stored = of_set[0], part.targets.get(name, {})
        positions = codec.places(stored) if isinstance(codec, Kept) and POSITIONS in stored else None
        of_rows: Any = codec.inner if isinstance(codec, Kept) else codec
        blank = torch.zeros(len(part.samples), *of_rows.row_shape[:-1], 0, device=part.device)
        yield module.inputs.target(Features(blank, positions), part.fields, fed)


def _add(sums: list[Tensor | None], loss: Tensor, learnt: Sequence[Tensor]) -> None:
    """The gradients of one part's loss are added to `sums`; its activations are gone."""
    with torch.autocast(loss.device.type, enabled=False):
        gradients = torch.autograd.grad(loss, learnt, allow_unused=True)
    torch.clear_autocast_cache()  # which holds on to the part's graph
    for number, gradient in enumerate(gradients):
        if gradient is not None:
            before = sums[number]
            sums[number] = (torch.zeros_like(learnt[number]) if before is None else before).add_(gradient)


def _scale(module: Trained) -> float:
    """What float16's gradients are multiplied by in the backward pass, lest they vanish; 1 for other types."""
    scaler = getattr(getattr(module._trainer, "precision_plugin", None), "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


class _Handed(torch.autograd.Function):
    """A loss whose gradients are known, `scale` times too large."""

    @staticmethod
    def forward(context: Any, total: Tensor, scale: float, sums: list[Tensor | None], *learnt: Tensor) -> Tensor:
        """The loss itself."""
        context.scale, context.sums = scale, sums
        return total.clone()

    @staticmethod
    def backward(context: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, as often as the loss counts."""
        sums, factor = context.sums, gradient[0] / context.scale
        context.sums = None
        return None, None, None, *(None if each is None else each.mul_(factor) for each in sums)
