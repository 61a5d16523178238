"""Codes: the stored indices of codebooks beside the rows that they decode to, for objectives that predict them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True)
class Codes:
    """The index of each codebook, and whose codebooks these are."""

    indices: UInt8[Tensor, "batch *tokens codebooks"]
    codec: Any
    """The Codebooks (shards/codecs/codebooks.py) that encoded them."""

    def __getitem__(self, samples: slice) -> "Codes":
        """Some samples of the batch."""
        return Codes(self.indices[samples], self.codec)

    def join(self, parts: Sequence["Codes | None"]) -> "Codes | None":
        """The samples of all `parts`; None where they have several codebooks, under which an index means several."""
        same = [part.indices for part in parts if part is not None and part.codec is self.codec]
        return Codes(torch.cat(same), self.codec) if len(same) == len(parts) else None
