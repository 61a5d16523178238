"""Vision encoders of `transformers` with every target by name.

The block of such an encoder tells nothing of its feed-forward result, which data2vec 2.0 averages into targets: here a
block's layer result is its output.
"""

import inspect
from collections.abc import Collection
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from extract.networks.dense import DenseNetwork
from extract.networks.embeddings import IMAGE_EMBEDS
from extract.networks.outputs import TokenTargets
from shards.errors import BadInput

_CLS = ("cls_token", "class_embedding")
_EXTRA = (*_CLS, "distillation_token", "register_tokens")


class NamedTokens(DenseNetwork):
    """A vision encoder whose forward gives the targets that a data2vec 2.0 network gives, by the same names.

    `tokens` are after the final norm where the encoder puts all tokens through one (CLIP's is for its pooled CLS
    alone); the extra tokens are CLS, then a distillation token or registers; a layer is a block's output.
    """

    noise: Tensor | None
    projection: nn.Module | None

    def __init__(self, network: transformers.PreTrainedModel, image_size: int, where: str) -> None:
        """One black image tells the blocks and tokens; BadInput, which begins with `where`, for an unfit network."""
        super().__init__(network)
        self._arguments: dict[str, Any] = {}
        self.projection = None
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
        self.name_targets(TokenTargets(num_extra, {}, _num_tokens(network, _CLS, width) > 0), len(layers))

    def embed_by(self, projection: nn.Module) -> None:
        """From here on there are `image_embeds` (batch, width) too, the projection of what the encoder itself pools."""
        self.projection = projection
        self.others = [IMAGE_EMBEDS]
        self.names = (*self.names, IMAGE_EMBEDS)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; the blocks' outputs are kept in memory only where one of them needs them."""
        output = self.network(output_hidden_states=self.needs_layers, **self._inputs(images))
        outputs = self.by_name(output.last_hidden_state, output.hidden_states[1:] if self.needs_layers else ())
        if self.projection is not None and IMAGE_EMBEDS in self.names:
            outputs[IMAGE_EMBEDS] = self.projection(output.pooler_output)
        return outputs

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
