"""The transformer block of data2vec 2.0, the same in the prenet and in the shared encoder and for every modality.

`AltBlock` and `AltAttention` of fairseq 3d262bb, examples/data2vec/models/modalities/modules.py (arXiv:2212.07525).
Departures: every dropout and drop path is the identity, also in train mode; attention runs through
scaled_dot_product_attention, which under autocast adds the bias in the query's precision rather than in float32.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from extract.networks.data2vec2.settings import Data2Vec2Settings


def layer_norm(settings: Data2Vec2Settings) -> nn.LayerNorm:
    """A layer norm over the width, with the eps and affinity that the checkpoint's cfg names."""
    return nn.LayerNorm(settings.embed_dim, eps=settings.norm_eps, elementwise_affine=settings.norm_affine)


class Attention(nn.Module):
    """Multi-head self-attention; the joint projection gives [all q | all k | all v], each split in heads."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        bias: Float[Tensor, "bias_batch bias_heads bias_rows tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Every query attends to every key; `bias` is added to the scaled logits, so -inf hides a key.

        A query with every key hidden gives NaN in fairseq and is undefined here: it needs a row of nothing but padding
        and no extra token.
        """
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        bias = None if bias is None else bias.to(query.dtype)
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(heads.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The same map for every token."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """One transformer block, and its layer result: what data2vec averages into targets.

    Norm last (all released image and text models): h = x + Attn(x), r = norm1(h), t = MLP(r), out = norm2(r + t).
    Norm first: h = x + Attn(norm1(x)), t = MLP(norm2(h)), out = 2 t. The residual h is lost because the code overwrites
    it before it is added; models were trained that way, so it is kept.
    """

    def __init__(self, settings: Data2Vec2Settings) -> None:
        super().__init__()
        self.layer_norm_first = settings.layer_norm_first
        self.end_of_block_targets = settings.end_of_block_targets
        self.norm1 = layer_norm(settings)
        self.attn = Attention(settings.embed_dim, settings.num_heads)
        self.norm2 = layer_norm(settings)
        self.mlp = Mlp(settings.embed_dim, int(settings.embed_dim * settings.mlp_ratio))

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        bias: Float[Tensor, "bias_batch bias_heads bias_rows tokens"] | None = None,
    ) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch tokens dim"]]:
        """(output, layer result): the result is the MLP's output before residual and norm, or, with
        `end_of_block_targets`, the block's output."""
        if self.layer_norm_first:
            x = x + self.attn(self.norm1(x), bias)
            result = self.mlp(self.norm2(x))
            output = result + result
        else:
            x = self.norm1(x + self.attn(x, bias))
            result = self.mlp(x)
            output = self.norm2(x + result)
        return output, output if self.end_of_block_targets else result
