"""int4: channels standardised, then 4 bits a number in groups of 64 with scale and offset (3.5 times under float16)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from shards.codecs.base import Encoded
from shards.codecs.channels import Standardised

GROUP = 64
_LEVELS = 15


@dataclass(frozen=True)
class Int4(Standardised):
    """Asymmetric 4-bit quantisation of standardised channels; two numbers a byte, the first in the low half."""

    group: int = GROUP
    name: str = "int4"

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity; its statistics follow from the rest of it."""
        return {"name": self.name, "group": self.group}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`values` (two numbers a byte), and `scale` and `offset` of each group."""
        *leading, width = self.row_shape
        groups = ("float16", (*leading, width // self.group))
        return {"values": ("uint8", (*leading, width // 2)), "scale": groups, "offset": groups}

    def encode(self, rows: Float[Tensor, "batch ..."]) -> Encoded:
        """Rounded to the nearest of 16 levels between a group's least and largest number."""
        groups = self.standardise(rows).unflatten(-1, (-1, self.group))
        least, largest = groups.aminmax(dim=-1)
        offset = least.clamp(-65504, 65504).half()
        scale = ((largest - offset.float()) / _LEVELS).clamp(2**-14, 65504).half()
        levels = ((groups - offset.float().unsqueeze(-1)) / scale.float().unsqueeze(-1)).round().clamp(0, _LEVELS)
        pairs = levels.to(torch.uint8).flatten(-2).unflatten(-1, (-1, 2))
        return {"values": pairs[..., 0] | (pairs[..., 1] << 4), "scale": scale, "offset": offset}

    def decode(self, stored: Encoded) -> Float[Tensor, "batch ..."]:
        """The rows as float32."""
        levels = torch.stack([stored["values"] & 0xF, stored["values"] >> 4], -1).flatten(-2)
        groups = levels.unflatten(-1, (-1, self.group)).float()
        standard = torch.addcmul(stored["offset"].float().unsqueeze(-1), groups, stored["scale"].float().unsqueeze(-1))
        return self.restore(standard.flatten(-2))


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> Int4:
    """The codec `int4`, in groups of 64 channels, or of the largest even divisor of the width below that."""
    if argument:
        raise ValueError(f"{name} takes no argument, found {argument!r}")
    width = row_shape[-1]
    group = max((size for size in range(2, GROUP + 1, 2) if width % size == 0), default=0)
    if not group:
        raise ValueError(f"packs two numbers a byte, but rows of {width} are odd; use int8")
    return Int4(row_shape, group=group)
