"""The text front end of data2vec 2.0: embeddings of byte-level BPE tokens and of their positions, and a norm.

`TextEncoder` and `TextLocalEncoder` of fairseq 3d262bb,
examples/data2vec/models/modalities/text.py, and fairseq's modules/sinusoidal_positional_embedding.py.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from extract.networks.data2vec2.network import Data2Vec2, ModalityEncoder
from extract.networks.data2vec2.settings import TextSettings
from shards.errors import BadInput

PAD = 1
"""fairseq's id of `<pad>`, and the position of every token of that id."""


class TokenEmbedding(nn.Module):
    """Tokens and their positions as vectors; padding has a position of its own, at which a learned table is zero."""

    def __init__(self, settings: TextSettings) -> None:
        super().__init__()
        self.settings = settings
        dim, positions = settings.embed_dim, settings.max_source_positions + PAD + 1
        learned = settings.learned_pos and not settings.no_token_positional_embeddings
        self.embed_tokens = nn.Embedding(settings.vocab_size, dim, padding_idx=PAD)
        self.embed_positions = nn.Embedding(positions, dim, padding_idx=PAD) if learned else None
        # 1e-5 whatever the cfg's norm_eps is: fairseq's own default
        self.layernorm_embedding = nn.LayerNorm(dim, eps=1e-5) if settings.layernorm_embedding else None

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens dim"]:
        """One vector a token; BadInput for more tokens than there are positions."""
        settings, num_tokens = self.settings, ids.shape[1]
        if num_tokens > settings.max_source_positions:
            raise BadInput(
                f"this data2vec 2.0 network takes at most {settings.max_source_positions} tokens, found {num_tokens}; "
                f"make shorter blocks, as --view blocks:size={settings.max_source_positions}"
            )
        x = self.embed_tokens(ids)
        if not settings.no_scale_embedding:
            x = x * math.sqrt(settings.embed_dim)
        if not settings.no_token_positional_embeddings:
            positions = token_positions(ids)
            table = self.embed_positions
            x = x + (sine_positions(positions, settings.embed_dim) if table is None else table(positions))
        return x if self.layernorm_embedding is None else self.layernorm_embedding(x)


def token_positions(ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"]:
    """PAD + 1, PAD + 2 ... for the tokens that are no padding, PAD for padding: counted by ids, not by a mask."""
    content = ids.ne(PAD).to(torch.int64)
    return content.cumsum(1) * content + PAD


def sine_positions(positions: Int[Tensor, "batch tokens"], dim: int) -> Float[Tensor, "batch tokens dim"]:
    """[sin(p w), cos(p w)] with w_j = 10000^(-j / (dim/2 - 1)), j < dim/2; zero at PAD and in an odd last channel."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=positions.device) * -(math.log(10000) / (half - 1)))
    angles = positions[..., None] * frequencies
    waves = F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, dim % 2))
    return waves * positions.ne(PAD)[..., None]


def build_text_network(settings: TextSettings) -> Data2Vec2:
    """A network with fresh weights (PyTorch's default initialisation, not the paper's)."""
    return Data2Vec2(settings, ModalityEncoder(settings, TokenEmbedding(settings), None))
