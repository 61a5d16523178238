"""float32 and float16: the rows as they are, or rounded to half precision."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from shards.codecs.base import Codec, Encoded
from shards.errors import BadInput


@dataclass(frozen=True)
class Floating(Codec):
    """Rows stored as floating-point numbers of one type."""

    name: str
    row_shape: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""
        return {"name": self.name}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """One array, `values`."""
        return {"values": (self.name, self.row_shape)}

    def encode(self, rows: Float[Tensor, "batch ..."]) -> Encoded:
        """Rounded to nearest; a value outside float16's range (65,504) is refused, not stored as infinity."""
        values = rows.to(getattr(torch, self.name))
        if self.name == "float16" and not torch.isfinite(values).all():
            raise BadInput("the teacher's outputs leave float16's range (65504): use --codec float32")
        return {"values": values}

    def decode(self, stored: Encoded) -> Float[Tensor, "batch ..."]:
        """The rows as float32."""
        return stored["values"].float()


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> Floating:
    """The codec `float32` or `float16`; neither takes an argument."""
    if argument:
        raise ValueError(f"{name} takes no argument, found {argument!r}")
    return Floating(name, row_shape)
