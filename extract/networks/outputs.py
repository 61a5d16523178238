"""Targets by name, of every network that keeps a row a token: (tokens, layers, extra tokens) -> one tensor.

The layer mean is data2vec 2.0's training target: `make_targets` of fairseq 3d262bb, examples/data2vec/models/
data2vec2.py; arXiv:2212.07525, section 3.1, and data2vec 1 (arXiv:2202.03555), section 3.3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BATCH, INSTANCE, LAYER = (0, 1), (1,), (2,)
NAMES = ("layer_mean", "layer_mean_no_cls", "layer_mean_no_norm", "layer_mean_norm", "tokens", "cls", "pooled")
"""Beside these a network has layer_N for each of its blocks."""

Project = Callable[[Tensor], Tensor]


VECTORS = ("cls", "pooled", "logits", "image_embeds")
"""Outputs with one row a sample."""


@dataclass(frozen=True)
class LayerMean:
    """How layers become one target: the dimensions over which each layer, and then their mean, is standardised."""

    of_layer: tuple[tuple[int, ...], ...] = (INSTANCE,)
    of_mean: tuple[tuple[int, ...], ...] = (LAYER,)
    counts_padding: bool = True
    """Whether padded tokens count in the statistics, as in fairseq."""


@dataclass(frozen=True)
class TokenTargets:
    """The targets of one network, whose tokens that are none of the input's (CLS, registers) come first.

    layer_mean: (extra + tokens, dim), the extra tokens inside the normalisation over tokens, as the thesis distils.
    layer_mean_no_cls: (tokens, dim), the extra tokens dropped before it, as the paper trains; the others differ too.
    layer_mean_no_norm: layer_mean without the norm at its end, as the thesis distils text.
    layer_mean_norm: layer_mean with a layer norm at its end, where it has no norm there itself.
    layer_N: (extra + tokens, dim), the layer mean of one block alone.
    tokens: (extra + tokens, dim), the last block's output; cls: (dim,), its first token; pooled: (dim,), the mean of
    its tokens without the extra ones and without padding.
    """

    num_extra: int
    layers: Mapping[str, int]
    """The block, from 1, whose result each layer_N is."""
    has_cls: bool = True
    num_averaged: int | None = None
    """The last so many layers make the layer mean; None for all."""
    mean: LayerMean = field(default_factory=LayerMean)
    pools: bool = True
    """False where the network's own head says what `pooled` is."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every target of the network."""
        without = {"layer_mean_no_cls": not self.num_extra, "cls": not self.has_cls, "pooled": not self.pools}
        # without a last norm layer_mean is layer_mean_no_norm already
        without |= {"layer_mean_no_norm": not self.mean.of_mean, "layer_mean_norm": bool(self.mean.of_mean)}
        return (*(name for name in NAMES if not without.get(name)), *self.layers)

    def extra_tokens(self, names: Sequence[str]) -> dict[str, int]:
        """How many extra tokens each of the targets `names` with tokens begins with."""
        with_tokens = [name for name in names if name not in VECTORS]
        return {name: 0 if name == "layer_mean_no_cls" else self.num_extra for name in with_tokens}

    def target(
        self,
        name: str,
        tokens: Float[Tensor, "batch tokens dim"],
        layers: Sequence[Float[Tensor, "batch tokens dim"]],
        project: Project | None = None,
        valid: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """One target; `project` maps it to another width, a layer mean before its last normalisation.

        `valid` is False where a token is padding; extra tokens are valid. Only targets of layers need `layers`.
        """
        if name == "layer_mean" or name in self.layers:
            return layer_mean(self._layers_of(name, layers), self.mean, project, valid)
        if name in ("layer_mean_no_norm", "layer_mean_norm"):
            how = replace(self.mean, of_mean=(LAYER,) if name == "layer_mean_norm" else ())
            return layer_mean(self._layers_of(name, layers), how, project, valid)
        if name == "layer_mean_no_cls":
            inner = [layer[:, self.num_extra :] for layer in self._layers_of(name, layers)]
            return layer_mean(inner, self.mean, project, None if valid is None else valid[:, self.num_extra :])
        rows = tokens
        if name == "cls":
            rows = tokens[:, 0]
        elif name == "pooled":
            rows = mean_token(tokens[:, self.num_extra :], None if valid is None else valid[:, self.num_extra :])
        return rows if project is None else project(rows)

    def _layers_of(self, name: str, layers: Sequence[Tensor]) -> Sequence[Tensor]:
        if name in self.layers:
            return [layers[self.layers[name] - 1]]
        return layers if self.num_averaged is None else layers[-self.num_averaged :]


def layer_mean(
    layers: Sequence[Float[Tensor, "batch tokens dim"]],
    how: LayerMean,
    project: Project | None = None,
    valid: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens width"]:
    """The float32 mean of the given layers, each normalised, then normalised itself.

    In training it is computed once more in the backward pass: kept, its float32 intermediates would take an eighth of a
    student's memory. `project` stands between the mean and its own normalisation.
    """
    again = partial(_layer_mean, how=how, project=project, valid=None if how.counts_padding else valid)
    if not torch.is_grad_enabled():
        return again(layers)
    mean: Tensor = checkpoint(again, layers, use_reentrant=False, preserve_rng_state=False)
    return mean


def _layer_mean(layers: Sequence[Tensor], how: LayerMean, project: Project | None, valid: Tensor | None) -> Tensor:
    # a running sum, not a stack: a stack of 12 layers of a base model's batch of 256 would take 1.9 GB
    total = _standardised(layers[0].float(), how.of_layer, valid)
    for layer in layers[1:]:
        total = total + _standardised(layer.float(), how.of_layer, valid)
    mean = total / len(layers)
    return _standardised(mean if project is None else project(mean).float(), how.of_mean, valid)


def _standardised(x: Tensor, steps: Sequence[tuple[int, ...]], valid: Tensor | None) -> Tensor:
    for dims in steps:
        x = standardise(x, dims, valid)
    return x


def standardise(
    x: Float[Tensor, "batch tokens dim"], dims: tuple[int, ...], valid: Bool[Tensor, "batch tokens"] | None = None
) -> Float[Tensor, "batch tokens dim"]:
    """Mean 0 and biased variance 1 over `dims`, eps 1e-5, no parameters: batch norm over (0, 1), with the statistics of
    this very batch; instance norm over (1,), each sample and channel over its tokens; layer norm over (2,).

    Statistics over tokens are those of the `valid` ones; the other rows are scaled by them as well.
    """
    if valid is None or 1 not in dims:
        variance, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    else:
        mask = valid[..., None].to(x.dtype)
        count = mask.sum(dim=dims, keepdim=True).clamp_min(1)
        mean = (x * mask).sum(dim=dims, keepdim=True) / count
        variance = ((x - mean).square() * mask).sum(dim=dims, keepdim=True) / count
    return (x - mean) * torch.rsqrt(variance + 1e-5)


def mean_token(
    tokens: Float[Tensor, "batch tokens dim"], valid: Bool[Tensor, "batch tokens"] | None = None
) -> Float[Tensor, "batch dim"]:
    """The mean of each sample's valid tokens."""
    if valid is None:
        return tokens.mean(1)
    mask = valid[..., None].to(tokens.dtype)
    return (tokens * mask).sum(1) / mask.sum(1).clamp_min(1)
