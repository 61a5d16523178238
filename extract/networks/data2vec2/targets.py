"""The training target of data2vec 2.0: the normalised mean of the last layers' results.

`make_targets` of fairseq 3d262bb, examples/data2vec/models/data2vec2.py; arXiv:2212.07525, section 3.1, and data2vec 1
(arXiv:2202.03555), section 3.3.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from extract.networks.data2vec2.settings import Data2Vec2Settings

_BATCH, _INSTANCE, _LAYER = (0, 1), (1,), (2,)


def standardise(x: Float[Tensor, "batch tokens dim"], dims: tuple[int, ...]) -> Float[Tensor, "batch tokens dim"]:
    """Mean 0 and biased variance 1 over `dims`, eps 1e-5, no parameters: batch norm over (0, 1), with the statistics of
    this very batch; instance norm over (1,), each sample and channel over its tokens; layer norm over (2,)."""
    variance, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-5)


def average_layers(
    layer_results: Sequence[Float[Tensor, "batch tokens dim"]],
    settings: Data2Vec2Settings,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "batch tokens width"]:
    """The float32 mean of the given layers, each normalised, then normalised itself, as the settings' five flags say.

    With `batch_norm_target_layer` a sample's target depends on the batch it is in: such a target cannot be stored.
    Padded tokens count in all statistics, as in fairseq. `project` stands between the mean and its own normalisation.
    """
    per_layer = [
        (settings.batch_norm_target_layer, _BATCH),
        (settings.instance_norm_target_layer, _INSTANCE),
        (settings.layer_norm_target_layer, _LAYER),
    ]
    of_mean = [(settings.layer_norm_targets, _LAYER), (settings.instance_norm_targets, _INSTANCE)]
    # a running sum, not a stack: a stack of 12 layers of a base model's batch of 256 would take 1.9 GB
    total = _normalise(layer_results[0].float(), per_layer)
    for result in layer_results[1:]:
        total = total + _normalise(result.float(), per_layer)
    mean = total / len(layer_results)
    return _normalise(mean if project is None else project(mean).float(), of_mean)


def _normalise(x: Tensor, steps: Sequence[tuple[bool, tuple[int, ...]]]) -> Tensor:
    for enabled, dims in steps:
        if enabled:
            x = standardise(x, dims)
    return x
