"""Kept tokens: K of a row's T tokens in any codec's arrays, and one more array that says where they stood.

197 x 768 in int8 are 151,690 bytes a view; 49 of the 197 tokens are 37,730 and 49 for their positions.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shards.codecs.base import Codec, Encoded
from shards.errors import RESTORE, Damaged

POSITIONS = "positions"
"""The name of the array of positions, beside those of the inner codec."""


@dataclass(frozen=True)
class KeptTokens:
    """The rows of the tokens that were kept, in ascending order of their positions."""

    rows: Float[Tensor, "batch kept dim"]
    positions: Int64[Tensor, "batch kept"]

    @classmethod
    def of(cls, tokens: Float[Tensor, "batch tokens dim"], positions: Int64[Tensor, "batch kept"]) -> "KeptTokens":
        """The rows of `tokens` at `positions`; torch refuses (on a GPU: asserts) a position outside of the sequence."""
        return cls(tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[-1])), positions)

    def __getitem__(self, samples: slice) -> "KeptTokens":
        """Some samples of the batch."""
        return KeptTokens(self.rows[samples], self.positions[samples])

    def take_from(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch kept dim"]:
        """The rows at the same positions of another sequence, a student's."""
        return self.of(tokens, self.positions).rows


@dataclass(frozen=True)
class Kept:
    """`inner`, made for rows of (keep, dim), and the positions of these tokens among `num_tokens`."""

    inner: Codec
    keep: int
    num_tokens: int

    @property
    def name(self) -> str:
        """The inner codec's spec: --keep_tokens is a flag of its own."""
        return self.inner.name

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""
        return self.inner.describe() | {"keep_tokens": self.keep}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The inner codec's, and `positions`: a byte a token, two where there are more than 256."""
        index = next(name for name, most in _INDEX_TYPES.items() if self.num_tokens <= most)
        return {**self.inner.arrays(), POSITIONS: (index, (self.keep,))}

    def encode(self, rows: KeptTokens) -> Encoded:
        """The kept rows as the inner codec stores them, and their positions."""
        dtype = getattr(torch, self.arrays()[POSITIONS][0])
        return {**self.inner.encode(rows.rows), POSITIONS: rows.positions.to(dtype)}

    def decode(self, stored: Encoded) -> KeptTokens:
        """The kept rows as float32, and their positions; Damaged where one is not below `num_tokens`.

        That is looked at on the CPU alone: on a GPU every step would wait for it, and there the gather that uses a
        position asserts it.
        """
        positions = stored[POSITIONS].to(torch.int64)
        if positions.device.type == "cpu" and positions.numel() and int(positions.max()) >= self.num_tokens:
            found = f"a token at position {int(positions.max())} was kept of {self.num_tokens} tokens"
            raise Damaged(f"{found}; {RESTORE}")
        return KeptTokens(self.inner.decode(stored), positions)

    def error(self, rows: KeptTokens) -> dict[str, float]:
        """The inner codec's, on the kept rows."""
        return self.inner.error(rows.rows)


class KeptCalibrated(Kept):
    """`Kept` around a codec with statistics; these come from all tokens, so that a kept row is the whole set's row."""

    inner: Any

    def calibrate(self, rows: Float[Tensor, "batch tokens dim"]) -> "KeptCalibrated":
        """This codec with the statistics of `rows`, whole sequences."""
        return replace(self, inner=self.inner.calibrate(rows))

    def with_state(self, state: dict[str, Tensor]) -> "KeptCalibrated":
        """This codec with the statistics kept beside a target set."""
        return replace(self, inner=self.inner.with_state(state))

    def state(self) -> dict[str, Tensor]:
        """The statistics to keep beside the target set."""
        state: dict[str, Tensor] = self.inner.state()
        return state


_INDEX_TYPES = {"uint8": 1 << 8, "uint16": 1 << 16, "int32": 1 << 31}


def kept(inner: Codec, keep: int, num_tokens: int) -> Kept:
    """`inner` storing `keep` of `num_tokens` tokens, with a calibration where `inner` has one."""
    return (KeptCalibrated if hasattr(inner, "with_state") else Kept)(inner, keep, num_tokens)
