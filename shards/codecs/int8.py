"""int8: channels standardised, then 8 bits a number with one scale a token (1.99 times fewer bytes than float16)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from shards.codecs.base import Encoded
from shards.codecs.channels import Standardised

_LEVELS = 127


@dataclass(frozen=True)
class Int8(Standardised):
    """Symmetric 8-bit quantisation of standardised channels; each token's scale is its largest magnitude (float16)."""

    name: str = "int8"

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity; its statistics follow from the rest of it."""
        return {"name": self.name}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`values`, and one `scale` a token."""
        return {"values": ("int8", self.row_shape), "scale": ("float16", (*self.row_shape[:-1], 1))}

    def encode(self, rows: Float[Tensor, "batch ..."]) -> Encoded:
        """Rounded to the nearest of 255 levels; the float16 scale is rounded first, so that decoding undoes it."""
        standard = self.standardise(rows)
        # a scale below float16's smallest normal number would lose its bits, and the token with it
        scale = (standard.abs().amax(-1, keepdim=True) / _LEVELS).clamp(2**-14, 65504).half()
        values = (standard / scale.float()).round().clamp(-_LEVELS, _LEVELS)
        return {"values": values.to(torch.int8), "scale": scale}

    def decode(self, stored: Encoded) -> Float[Tensor, "batch ..."]:
        """The rows as float32."""
        return self.restore(stored["values"].float() * stored["scale"].float())


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> Int8:
    """The codec `int8`; it takes no argument."""
    if argument:
        raise ValueError(f"{name} takes no argument, found {argument!r}")
    return Int8(row_shape)
