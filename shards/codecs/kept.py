"""Kept tokens: K of a row's T tokens in any codec's arrays, and one more array that says where they stood.

197 x 768 in int8 are 151,690 bytes a view; 49 of the 197 tokens are 37,730 and 49 for their positions.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shards.codecs.base import Codec, Encoded
from shards.codecs.features import Features

POSITIONS = "positions"
"""The name of the array of positions, beside those of the inner codec."""


@dataclass(frozen=True)
class Kept(Codec):
    """`inner`, made for rows of (keep, dim), and the positions of these tokens among `num_tokens`."""

    inner: Codec
    keep: int
    num_tokens: int
    numbers: Int64[Tensor, "batch numbers"] | None = None

    @property
    def has_statistics(self) -> bool:  # type: ignore[override]
        """Whether the inner codec has; they come from all tokens, so that a kept row is the whole set's row."""
        return self.inner.has_statistics

    @property
    def name(self) -> str:  # type: ignore[override]
        """The inner codec's spec: --keep_tokens is a flag of its own."""
        return self.inner.name

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""
        return self.inner.describe() | {"keep_tokens": self.keep}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The inner codec's, and `positions`: a byte a token, two where there are more than 256."""
        index = next(name for name, most in _INDEX_TYPES.items() if self.num_tokens <= most)
        return {**self.inner.arrays(), POSITIONS: (index, (self.keep,))}

    def encode(self, rows: Features) -> Encoded:
        """The kept rows as the inner codec stores them, and their positions."""
        assert rows.positions is not None
        dtype = getattr(torch, self.arrays()[POSITIONS][0])
        inner = self.inner if self.numbers is None else self.inner.with_numbers(self.numbers.gather(1, rows.positions))
        return {**inner.encode(rows.rows), POSITIONS: rows.positions.to(dtype)}

    def decode(self, stored: Encoded) -> Features:
        """The kept rows as float32, and their positions; the reader refuses those beyond `num_tokens`."""
        return Features(self.inner.decode(stored), self.places(stored))

    def places(self, stored: Encoded) -> Int64[Tensor, "batch kept"]:
        """Where the kept tokens stood."""
        return stored[POSITIONS].to(torch.int64)

    @property
    def num_centroids(self) -> int:  # type: ignore[override]
        """The inner codec's."""
        return self.inner.num_centroids

    def codes(self, stored: Encoded) -> Tensor | None:
        """The inner codec's, of the kept rows."""
        return self.inner.codes(stored)

    def error(self, rows: Features) -> dict[str, float]:
        """The inner codec's, on the kept rows."""
        return self.inner.error(rows.rows)

    def calibrate(self, rows: Float[Tensor, "batch ... dim"]) -> "Codec":
        """This codec with the statistics of `rows`, whole sequences, or all their tokens but padding."""
        return replace(self, inner=self.inner.calibrate(rows))

    def with_state(self, state: dict[str, Tensor]) -> "Codec":
        """This codec with the statistics kept beside a target set."""
        return replace(self, inner=self.inner.with_state(state))

    @property
    def numbers_a_row(self) -> int:  # type: ignore[override]
        """A number for each token of the whole sequence, so that a kept row is the whole set's row."""
        return self.num_tokens if self.inner.numbers_a_row else 0

    def with_numbers(self, numbers: Int64[Tensor, "batch numbers"]) -> "Codec":
        """This codec for the batch whose random numbers these are."""
        return replace(self, numbers=numbers)

    def state(self) -> dict[str, Tensor]:
        """The inner codec's statistics."""
        return self.inner.state()


_INDEX_TYPES = {"uint8": 1 << 8, "uint16": 1 << 16, "int32": 1 << 31}
