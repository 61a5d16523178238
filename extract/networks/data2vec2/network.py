"""The data2vec 2.0 network of one modality: local encoder, context encoder, shared blocks.

`Data2VecMultiModel` and `ModalitySpecificEncoder` of fairseq 3d262bb, examples/data2vec/models/data2vec2.py and
modalities/base.py, as they extract features: nothing masked, the decoder left out (arXiv:2212.07525, section 3).
"""

import copy
import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from extract.networks.data2vec2.alibi import AttentionBias, alibi_bias, padding_bias, token_distances
from extract.networks.data2vec2.attention import Block, layer_norm
from extract.networks.data2vec2.settings import Data2Vec2Settings
from extract.networks.outputs import layer_mean
from shards.errors import BadInput


@dataclass(frozen=True)
class Data2Vec2Output:
    """What the network says of a batch; the extra tokens (CLS) come first in every tensor."""

    tokens: Float[Tensor, "batch tokens dim"]
    layer_results: list[Float[Tensor, "batch tokens dim"]]  # one a shared block, none of the prenet's


class ContextEncoder(nn.Module):
    """A norm (none in norm-first models), then the prenet blocks."""

    def __init__(self, settings: Data2Vec2Settings) -> None:
        super().__init__()
        self.norm = layer_norm(settings) if settings.has_context_norm else None
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.prenet_depth))

    def forward(self, x: Float[Tensor, "batch tokens dim"], bias: AttentionBias) -> Float[Tensor, "batch tokens dim"]:
        """The tokens, in context; the blocks' layer results are dropped, for they are never part of a target."""
        x = x if self.norm is None else self.norm(x)
        for layer, block in enumerate(self.blocks):
            x, _ = block(x, bias.for_layer(layer))
        return x


class ModalityEncoder(nn.Module):
    """From raw input to tokens in context. Positions belong to the input's tokens only, the extra tokens have none.

    `local_encoder` maps the raw input to (batch, tokens, dim); `positions` is a fixed table (1, tokens, dim), kept as a
    buffer: it is saved with the weights and never trained.
    """

    positions: Tensor | None
    alibi_scale: Tensor | None

    def __init__(
        self, settings: Data2Vec2Settings, local_encoder: nn.Module, positions: Float[Tensor, "1 tokens dim"] | None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.local_encoder = local_encoder
        self.register_buffer("positions", positions)
        self.extra_tokens = None
        if settings.num_extra_tokens > 0:
            self.extra_tokens = nn.Parameter(torch.randn(1, settings.num_extra_tokens, settings.embed_dim))
        self._make_alibi_scale(settings)
        self.context_encoder = ContextEncoder(settings)

    def _make_alibi_scale(self, settings: Data2Vec2Settings) -> None:
        layers = settings.prenet_depth + settings.depth if settings.learned_alibi_scale_per_layer else 1
        heads = settings.num_alibi_heads if settings.learned_alibi_scale_per_head else 1
        scale = torch.full((layers, 1, heads, 1, 1), settings.alibi_scale) if settings.use_alibi_encoder else None
        # a scale that is not learned is in the checkpoint all the same: a buffer is saved, and no student trains it
        if settings.learned_alibi_scale and scale is not None:
            self.alibi_scale = nn.Parameter(scale)
        else:
            self.register_buffer("alibi_scale", scale)

    def forward(
        self, source: Tensor, padding_mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> tuple[Float[Tensor, "batch all_tokens dim"], AttentionBias]:
        """The tokens, extra ones in front, and the attention bias that the shared blocks add as well."""
        settings = self.settings
        x = self.local_encoder(source)
        num_tokens, num_extra = x.shape[1], settings.num_extra_tokens
        if self.positions is not None:
            x = x + self.positions
        if self.extra_tokens is not None:
            x = torch.cat([self.extra_tokens.expand(len(x), -1, -1), x], dim=1)
        alibi = None
        if settings.use_alibi_encoder:
            distances = token_distances(num_tokens, settings.alibi_dims, settings.alibi_distance, x.device)
            alibi = alibi_bias(distances, settings.num_alibi_heads, num_extra)
        padding = None if padding_mask is None else padding_bias(padding_mask, num_extra)
        bias = AttentionBias(settings.num_heads, padding, alibi, self.alibi_scale)
        return self.context_encoder(x, bias), bias


class Data2Vec2(nn.Module):
    """A whole data2vec 2.0 network, a frozen teacher or a student in training; train and eval mode compute the same."""

    def __init__(self, settings: Data2Vec2Settings, encoder: ModalityEncoder) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = encoder
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.depth))
        self.norm = layer_norm(settings) if settings.layer_norm_first else None

    def forward(self, source: Tensor, padding_mask: Bool[Tensor, "batch tokens"] | None = None) -> Data2Vec2Output:
        """Tokens (batch, extra + tokens, dim) after the last block and norm, and every shared block's layer result.

        `padding_mask` is True where a token of the input is padding: its key is hidden, its own row still computed.
        """
        x, bias = self.encoder(source, padding_mask)
        layer_results = []
        for layer, block in enumerate(self.blocks, start=self.settings.prenet_depth):
            x, result = block(x, bias.for_layer(layer))
            layer_results.append(result)
        return Data2Vec2Output(tokens=x if self.norm is None else self.norm(x), layer_results=layer_results)

    def layer_mean(
        self,
        output: Data2Vec2Output,
        keep_extra: bool = True,
        num_layers: int | None = None,
    ) -> Float[Tensor, "batch kept_tokens dim"]:
        """The float32 target made of an output's layer results, normalised as the checkpoint's cfg says.

        keep_extra=True keeps the extra tokens, also in the statistics over tokens: (batch, extra + tokens, dim), as the
        thesis distils (197 tokens; `y_all_tokens` of the golden files). keep_extra=False drops them first:
        (batch, tokens, dim), as the paper trains (`y`). The two differ in the patches' values too.
        The last `num_layers` are averaged: None takes the cfg's `average_top_k_layers`, or all where there are fewer.
        Gradients flow, so a student's mean is made by the same method; call it under no_grad for a teacher.
        """
        num_layers = self.settings.average_top_k_layers if num_layers is None else num_layers
        if num_layers < 1:
            raise BadInput(f"num_layers is the number of layers to average, 1 or more; found {num_layers}")
        first = 0 if keep_extra else self.settings.num_extra_tokens
        return layer_mean(
            [result[:, first:] for result in output.layer_results[-num_layers:]], self.settings.layer_mean
        )

    def first_blocks(self, depth: int) -> "Data2Vec2":
        """A trainable copy of the encoder and the first `depth` shared blocks, in train mode; it shares no memory.

        The thesis starts its students from 6 of 12 blocks. The prenet's blocks are kept and not counted.
        """
        if not 1 <= depth <= self.settings.depth:
            raise BadInput(f"depth: expected 1 to {self.settings.depth} of the teacher's shared blocks, found {depth}")
        student = copy.deepcopy(self)
        student.settings = student.encoder.settings = dataclasses.replace(self.settings, depth=depth)
        student.blocks = student.blocks[:depth]
        scale = student.encoder.alibi_scale
        if scale is not None and self.settings.learned_alibi_scale_per_layer:
            scale.data = scale.data[: self.settings.prenet_depth + depth].clone()
        return student.requires_grad_(True).train()
