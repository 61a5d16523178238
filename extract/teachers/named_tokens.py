"""Vision encoders of `transformers` with every target by name.

The block of such an encoder tells nothing of its feed-forward result, which data2vec 2.0 averages into targets: here a
block's layer result is its output.
"""

import copy
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from extract.networks.data2vec2.targets import standardise
from shards.errors import BadInput

_CLS = ("cls_token", "class_embedding")
_EXTRA = (*_CLS, "distillation_token", "register_tokens")
_OUTPUTS: dict[str, Callable[[Tensor, Sequence[Tensor], int], Tensor]] = {
    "layer_mean": lambda tokens, layers, num_extra: layer_mean(layers),
    "layer_mean_no_cls": lambda tokens, layers, num_extra: layer_mean([layer[:, num_extra:] for layer in layers]),
    "tokens": lambda tokens, layers, num_extra: tokens,
    "cls": lambda tokens, layers, num_extra: tokens[:, 0],
    "pooled": lambda tokens, layers, num_extra: tokens[:, num_extra:].mean(1),
}


def layer_mean(layers: Sequence[Float[Tensor, "batch tokens dim"]]) -> Float[Tensor, "batch tokens dim"]:
    """The float32 target of data2vec 2.0 (arXiv:2212.07525, section 3.1): each layer normalised over its tokens, their
    mean over its channels."""
    total = standardise(layers[0].float(), (1,))
    for layer in layers[1:]:
        total = total + standardise(layer.float(), (1,))
    return standardise(total / len(layers), (2,))


class NamedTokens(nn.Module):
    """A vision encoder whose forward gives the targets that a data2vec 2.0 network gives, by the same names.

    tokens: (extra + patches, dim), the last block's output, after the final norm where the encoder puts all tokens
    through one (CLIP's is for its pooled CLS alone); the extra tokens (CLS, then a distillation token or registers)
    come first. cls: (dim,), the first token, where it is a CLS; pooled: (dim,), the mean of the patches. layer_mean,
    layer_mean_no_cls and layer_N: the normalised mean of all blocks' outputs, with and without all extra tokens, and of
    block N alone.
    """

    noise: Tensor | None

    def __init__(self, network: transformers.PreTrainedModel, image_size: int, where: str) -> None:
        """One black image tells the blocks and tokens; BadInput, which begins with `where`, for an unfit network."""
        super().__init__()
        self.network = network
        self._arguments: dict[str, Any] = {}
        trained = square(network.config, "image_size")
        accepted = inspect.signature(network.forward).parameters
        if "interpolate_pos_encoding" in accepted and trained != image_size:
            self._arguments["interpolate_pos_encoding"] = True
        num_patches = (image_size // (square(network.config, "patch_size") or image_size)) ** 2
        # MAE's encoder leaves out patches and shuffles the others, both by a noise that it draws unless it is given one
        masks = "noise" in accepted
        if masks:
            network.config.mask_ratio = 0.0
        self.register_buffer("noise", torch.arange(num_patches) if masks else None, persistent=False)
        kind = f"{where}: a network of type {network.config.model_type}"
        try:
            with torch.no_grad():
                output = self._run(torch.zeros(1, 3, image_size, image_size), with_layers=True)
            tokens, layers = output.last_hidden_state, output.hidden_states[1:]
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise BadInput(f"{kind} takes no images of {image_size} pixels ({error}); try {trained} pixels") from error
        width = tokens.shape[-1]
        self._num_extra = _num_tokens(network, _EXTRA, width)
        expected = (1, self._num_extra + num_patches, width)
        shapes = [tuple(rows.shape) for rows in (tokens, *layers)]
        if wrong := next((shape for shape in shapes if shape != expected), None):
            raise BadInput(
                f"{kind}: expected {self._num_extra} extra tokens and {num_patches} patches in every block, found "
                f"{wrong}; give an encoder that keeps one row a patch (ViT, DINOv2, BEiT, CLIP, SigLIP)"
            )
        self.depth = len(layers)
        without = {"layer_mean_no_cls": not self._num_extra, "cls": not _num_tokens(network, _CLS, width)}
        outputs = (name for name in _OUTPUTS if not without.get(name))
        self.names = (*outputs, *(f"layer_{block}" for block in range(1, len(layers) + 1)))

    @property
    def extra_tokens(self) -> dict[str, int]:
        """How many tokens that are no patches each output with tokens begins with."""
        with_tokens = [name for name in self.names if name not in ("cls", "pooled")]
        return {name: 0 if name == "layer_mean_no_cls" else self._num_extra for name in with_tokens}

    def only(self, names: Collection[str]) -> "NamedTokens":
        """The same encoder, sharing all parameters, whose forward computes the outputs `names` and no other."""
        chosen = copy.copy(self)
        chosen.names = tuple(name for name in self.names if name in names)
        return chosen

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; the blocks' outputs are kept in memory only where one of them needs them."""
        with_layers = any(name.startswith("layer_") for name in self.names)
        output = self._run(images, with_layers)
        layers = output.hidden_states[1:] if with_layers else ()
        return {name: self._output(name, output.last_hidden_state, layers) for name in self.names}

    def _output(self, name: str, tokens: Tensor, layers: Sequence[Tensor]) -> Float[Tensor, "batch ..."]:
        if name in _OUTPUTS:
            return _OUTPUTS[name](tokens, layers, self._num_extra)
        return layer_mean([layers[int(name.removeprefix("layer_")) - 1]])

    def _run(self, images: Tensor, with_layers: bool) -> Any:
        noise = {} if self.noise is None else {"noise": self.noise.expand(len(images), -1)}
        return self.network(images, output_hidden_states=with_layers, **noise, **self._arguments)


def square(config: transformers.PretrainedConfig, name: str) -> int | None:
    """The side that a config gives as one number or as two alike; None where it gives none or a rectangle."""
    value = getattr(config, name, None)
    sides = set(value) if isinstance(value, list | tuple) else {value}
    side = sides.pop() if len(sides) == 1 else None
    return side if isinstance(side, int) and side > 0 else None


def _num_tokens(network: nn.Module, names: Collection[str], width: int) -> int:
    """How many learned tokens of these names the network has."""
    found = (tensor for name, tensor in network.named_parameters() if name.rpartition(".")[2] in names)
    return sum(tensor.numel() for tensor in found) // width
