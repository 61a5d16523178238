"""Encoders of `transformers`, of images or of text, with every target by name.

The block of such an encoder tells nothing of its feed-forward result, which data2vec 2.0 averages into targets: here a
block's layer result is its output.
"""

import copy
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
import transformers
from jaxtyping import Bool, Float
from torch import Tensor, nn

from extract.networks.outputs import TokenTargets
from shards.errors import BadInput

_CLS = ("cls_token", "class_embedding")
_EXTRA = (*_CLS, "distillation_token", "register_tokens")


class TokenEncoder(nn.Module):
    """An encoder whose outputs extract.networks.outputs.TokenTargets names; what it is fed is a subclass's to say.

    `tokens` are after the final norm where the encoder puts all tokens through one (CLIP's is for its pooled CLS
    alone); the extra tokens are CLS, then a distillation token or registers; a layer is a block's output.
    """

    def __init__(self, network: transformers.PreTrainedModel) -> None:
        """A subclass sets `targets` and `names` once it has seen the network's tokens and blocks."""
        super().__init__()
        self.network = network
        self.targets = TokenTargets(0, {})
        self.names: tuple[str, ...] = ()

    def name_targets(self, num_extra: int, has_cls: bool, depth: int) -> None:
        """The encoder gives the targets of `depth` blocks whose first `num_extra` tokens are none of the input's."""
        self.targets = TokenTargets(num_extra, {f"layer_{block}": block for block in range(1, depth + 1)}, has_cls)
        self.names = self.targets.names

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.targets.layers)

    @property
    def extra_tokens(self) -> dict[str, int]:
        """How many tokens that are none of the input's each output with tokens begins with."""
        return self.targets.extra_tokens(self.names)

    def only(self, names: Collection[str]) -> "TokenEncoder":
        """The same encoder, sharing all parameters, whose forward computes the outputs `names` and no other."""
        chosen = copy.copy(self)
        chosen.names = tuple(name for name in self.names if name in names)
        return chosen

    def by_name(
        self, inputs: Mapping[str, Any], valid: Bool[Tensor, "batch tokens"] | None = None
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; the blocks' outputs are kept in memory only where one of them needs them."""
        with_layers = any(name.startswith("layer_") for name in self.names)
        output = self.network(output_hidden_states=with_layers, **inputs)
        tokens, layers = output.last_hidden_state, output.hidden_states[1:] if with_layers else ()
        return {name: self.targets.target(name, tokens, layers, valid=valid) for name in self.names}


class NamedTokens(TokenEncoder):
    """A vision encoder whose forward gives the targets that a data2vec 2.0 network gives, by the same names."""

    noise: Tensor | None

    def __init__(self, network: transformers.PreTrainedModel, image_size: int, where: str) -> None:
        """One black image tells the blocks and tokens; BadInput, which begins with `where`, for an unfit network."""
        super().__init__(network)
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
                output = network(output_hidden_states=True, **self._inputs(torch.zeros(1, 3, image_size, image_size)))
            tokens, layers = output.last_hidden_state, output.hidden_states[1:]
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise BadInput(f"{kind} takes no images of {image_size} pixels ({error}); try {trained} pixels") from error
        width = tokens.shape[-1]
        num_extra = _num_tokens(network, _EXTRA, width)
        expected = (1, num_extra + num_patches, width)
        shapes = [tuple(rows.shape) for rows in (tokens, *layers)]
        if wrong := next((shape for shape in shapes if shape != expected), None):
            raise BadInput(
                f"{kind}: expected {num_extra} extra tokens and {num_patches} patches in every block, found "
                f"{wrong}; give an encoder that keeps one row a patch (ViT, DINOv2, BEiT, CLIP, SigLIP)"
            )
        self.name_targets(num_extra, _num_tokens(network, _CLS, width) > 0, len(layers))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`."""
        return self.by_name(self._inputs(images))

    def _inputs(self, images: Tensor) -> dict[str, Any]:
        noise = {} if self.noise is None else {"noise": self.noise.expand(len(images), -1)}
        return {"pixel_values": images, **noise, **self._arguments}


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
