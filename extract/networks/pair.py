"""Two encoders, of images and of texts, and one encoder that both share: SHRe, Transformer SHRe and S-SMKE.

Aytar et al. 2017 ("See, Hear, and Read", arXiv:1706.00932) let modalities meet in shared layers under one teacher; the
thesis has both forms of the shared encoder that stand here (section "Image-text in detail").
"""

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from extract.networks.dense import DenseNetwork
from shards.errors import BadInput

BASE_LR = 5e-4
"""The thesis's, for all its transformers."""
MODALITIES = ("image", "text")
ENCODED, HEAD = "encoded", "head"
SHARED = ("mlp", "block", "none")


class SharedMLP(nn.Module):
    """a = W1 h + b1 to `hidden`; b = W2 LN(GELU(a)) + b2 back to `width`: `shared_1` and `shared_2`."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.inner, self.outer, self.norm = nn.Linear(width, hidden), nn.Linear(hidden, width), nn.LayerNorm(hidden)

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"], padding: Bool[Tensor, "batch tokens"] | None, modality: int
    ) -> tuple[Tensor, Tensor]:
        """The activations of the first token."""
        inner = self.inner(tokens[:, 0])
        return inner, self.outer(self.norm(F.gelu(inner)))


class SharedNone(nn.Module):
    """No layer is shared: `shared_1` and `shared_2` are what the encoders give, as in CLIP."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"], padding: Bool[Tensor, "batch tokens"] | None, modality: int
    ) -> tuple[Tensor, Tensor]:
        """The first token, twice."""
        return tokens[:, 0], tokens[:, 0]


class SharedBlock(nn.Module):
    """A pre-norm Transformer block over one modality's whole sequence, which a learned token type marks.

    H' = MHA(LN(H)) + H; H'' = FFN(LN(H')) + H'. `shared_1` and `shared_2` are the FFN's inner and outer activations.
    """

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise BadInput(f"network pair: a shared block of width {width} cannot have {heads} heads")
        self.types = nn.Parameter(torch.zeros(len(MODALITIES), width))
        nn.init.normal_(self.types, std=0.02)
        self.before_attention, self.before_ffn = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"], padding: Bool[Tensor, "batch tokens"] | None, modality: int
    ) -> tuple[Tensor, Tensor]:
        """The activations of the first token, with the residual in `shared_2`."""
        tokens = tokens + self.types[modality]
        normed = self.before_attention(tokens)
        first = normed[:, :1]  # no other row of the block's output is used
        attended = self.attention(first, normed, normed, key_padding_mask=padding, need_weights=False)[0]
        rows = (attended + tokens[:, :1])[:, 0]
        inner = self.inner(self.before_ffn(rows))
        return inner, self.outer(F.gelu(inner)) + rows


class PairNetwork(nn.Module):
    """Outputs by name, a row a sample, each for `image/` and `text/`.

    encoded: the encoder's CLS, or its pooled features where it has none; shared_1, shared_2: the shared encoder's
    layers; one output a target, of the target's name, each a linear layer on LN(shared_2); head: the first of them.
    A target that is named for a modality, as image_embeds, has an output of that one alone.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        widths: Mapping[str, int],
        shared: Mapping[str, Any],
        heads: Mapping[str, int],
    ) -> None:
        super().__init__()
        kind, width, hidden = shared["kind"], shared["width"], shared["hidden"]
        self.outputs_of = {modality: encoder_output(encoders[modality], kind) for modality in MODALITIES}
        self.encoders = nn.ModuleDict(
            {
                modality: encoder.only([self.outputs_of[modality]]) if isinstance(encoder, DenseNetwork) else encoder
                for modality, encoder in encoders.items()
            }
        )
        # an encoder of another width meets the shared one through a linear layer
        self.adapters = nn.ModuleDict(
            {each: nn.Identity() if widths[each] == width else nn.Linear(widths[each], width) for each in MODALITIES}
        )
        shared_kind = dict(zip(SHARED, (SharedMLP, SharedBlock, SharedNone), strict=True))[kind]
        self.shared = shared_kind(width, hidden, shared["heads"])
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, dim) for name, dim in heads.items()})
        self.names: tuple[str, ...] = tuple(
            f"{modality}/{layer}"
            for modality in MODALITIES
            for own in [heads_of(modality, heads)]
            for layer in [ENCODED, "shared_1", "shared_2", *([HEAD] if own else []), *own]
        )

    def only(self, names: Collection[str]) -> "PairNetwork":
        """The same network, sharing all parameters, whose forward runs no encoder that the outputs `names` lack."""
        chosen = copy.copy(self)
        chosen.names = tuple(name for name in self.names if name in names)
        return chosen

    def towers(self) -> Sequence["PairNetwork"]:
        """The network as parts that can be run one after the other, each giving its share of the outputs."""
        return [self.only([n for n in self.names if n.startswith(f"{modality}/")]) for modality in MODALITIES]

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"] | None = None,
        input_ids: Int[Tensor, "batch tokens"] | None = None,
        attention_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> dict[str, Float[Tensor, "batch _"]]:
        """The outputs of `names`; a part whose outputs are not among them needs no input."""
        given = {"image": (images,), "text": (input_ids, attention_mask)}
        outputs: dict[str, Tensor] = {}
        for number, modality in enumerate(MODALITIES):
            if any(name.startswith(f"{modality}/") for name in self.names):
                outputs |= self._outputs(number, modality, given[modality])
        return {name: outputs[name] for name in self.names}

    def _outputs(self, number: int, modality: str, given: Sequence[Tensor | None]) -> dict[str, Tensor]:
        name = self.outputs_of[modality]
        rows = self.encoders[modality](*given)[name]
        padding = ~given[1] if name == "tokens" and modality == "text" and given[1] is not None else None
        tokens = rows if name == "tokens" else rows[:, None]
        inner, outer = self.shared(self.adapters[modality](tokens), padding, number)
        normed = self.norm(outer)
        heads = {name: self.heads[name](normed) for name in heads_of(modality, self.heads)}
        first = {HEAD: next(iter(heads.values()))} if heads else {}
        outputs = {ENCODED: tokens[:, 0], "shared_1": inner, "shared_2": outer, **first, **heads}
        return {f"{modality}/{name}": rows for name, rows in outputs.items()}


def heads_of(modality: str, heads: Iterable[str]) -> list[str]:
    """The heads that one modality has: all but those that are named for the other one."""
    others = tuple(f"{other}_" for other in MODALITIES if other != modality)
    return [name for name in heads if not name.startswith(others)]


def encoder_output(encoder: nn.Module, kind: str) -> str:
    """Which output of an encoder goes on: all tokens to a shared block, else CLS, else the pooled features."""
    has = encoder.names if isinstance(encoder, DenseNetwork) else ("pooled",)
    return next(name for name in (*(["tokens"] if kind == "block" else []), "cls", "pooled") if name in has)


def build(
    architecture: str,
    num_classes: int | None,
    image: Mapping[str, Any],
    text: Mapping[str, Any],
    shared: Mapping[str, Any],
    heads: Mapping[str, Any],
) -> nn.Module:
    """A pair network, freshly initialised; `image` and `text` are what `build_network` makes the encoders of, with the
    `width` of what they give.

    `shared` has kind (mlp or block), width, hidden and heads, `heads` the width of each target.
    """
    from extract.networks import build_network

    if num_classes is not None:
        raise BadInput(f"network {architecture}: gives features by name, so num_classes must be null")
    numbers = [shared.get(name) for name in ("width", "hidden", "heads")]
    if shared.get("kind") not in SHARED or not all(type(n) is int and n > 0 for n in [*numbers, *heads.values()]):
        raise BadInput(f"network {architecture}: shared or heads cannot be {str({**shared, **heads})[:80]}")
    encoders: dict[str, nn.Module] = {}
    widths: dict[str, int] = {}
    for modality, described in (("image", image), ("text", text)):
        if (
            not {"architecture", "num_classes", "arguments"} <= described.keys()
            or type(described.get("width")) is not int
        ):
            raise BadInput(f"network {architecture}: {modality} cannot be {str(described)[:80]}")
        widths[modality] = described["width"]
        encoders[modality] = build_network(
            described["architecture"], described["num_classes"], **described["arguments"]
        )
    return PairNetwork(encoders, widths, shared, heads)
