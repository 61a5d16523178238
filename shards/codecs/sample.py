"""sample: K classes drawn in proportion to their probability, so that the loss's gradient is unbiased.

Random Sampling KD (Anshumann et al. 2025, arXiv:2503.16870): of N draws a class that was drawn n times has the weight
n / N, whose mean is its probability p. The gradient of KL with respect to the student's logits is the student's
probabilities minus the weights, so its mean is the full gradient, whatever the student. Two departures from the paper
lower the variance at equal bytes:

- The draws are systematic, not independent: N points at even distances from one random offset, on a line where each
  class is as long as it is probable (Madow 1949, "On the theory of systematic sampling, II"). A class is drawn
  floor(N p) or ceil(N p) times, N p in the mean. The variance of its weight is f (1 - f) / N^2, f being the fraction of
  N p; independent draws have p (1 - p) / N.
- N is the largest number up to 255 with which at most K classes are drawn, whatever the offset: a teacher that is
  nearly sure needs few entries, so that there can be more draws for the rest. This holds where the sum of min(1, N p)
  is at most K and the classes with N p < 1 lie side by side on the line. N follows from p alone: no bias comes of it.

Bytes do not depend on the batch or on the number of threads: floats are added up in one place, the float64 softmax of a
row. Its probabilities become whole multiples of 2^-40, and all that follows is arithmetic of whole numbers.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shards.codecs.base import Codec, Encoded
from shards.codecs.distribution import (
    SMALLEST_LOG,
    Distribution,
    Estimate,
    blocks,
    error_rows,
    gradient_error,
    index_type,
)

MOST_DRAWS = 255
"""What a byte counts to."""
_ONE = 1 << 40


class Draws(NamedTuple):
    """How often the classes of some rows are to be drawn."""

    shares: Int64[Tensor, "rows classes"]
    """The probabilities in whole numbers; `total` is their sum."""
    total: Int64[Tensor, "rows 1"]
    num_draws: Int64[Tensor, "rows 1"]
    likely: Int64[Tensor, "rows k"]
    """The classes with N p >= 1, ascending; the number of classes where there are fewer than k."""


@dataclass(frozen=True)
class Sampled(Codec):
    """2 bytes a class and 1 for its count: 36 bytes at K = 12 (60 above 65,536 classes), a sample or, of rows
    (tokens, classes), a token."""

    k: int
    row_shape: tuple[int, ...]
    numbers: Int64[Tensor, "batch numbers"] | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """The codec's spec."""
        return f"sample:{self.k}"

    @property
    def numbers_a_row(self) -> int:  # type: ignore[override]
        """An offset a distribution."""
        return math.prod(self.row_shape[:-1])

    def with_numbers(self, numbers: Int64[Tensor, "batch numbers"]) -> "Sampled":
        """This codec for the rows whose numbers these are."""
        return replace(self, numbers=numbers)

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""
        return {"name": "sample", "k": self.k}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`classes` (sorted by falling count) and `counts`, 0 where fewer classes were drawn."""
        *leading, num_classes = self.row_shape
        return {"classes": (index_type(num_classes), (*leading, self.k)), "counts": ("uint8", (*leading, self.k))}

    def encode(self, rows: Float[Tensor, "batch *tokens classes"]) -> Encoded:
        """The classes drawn with the numbers that `with_numbers` gave, and how often each was."""
        assert self.numbers is not None, "this codec has no numbers to draw with"
        flat, numbers = rows.flatten(0, -2), self.numbers.reshape(-1, 1)
        parts = [_draw(draws_of(part, self.k), of_part) for part, of_part in blocks(flat, numbers)]
        classes, counts = (torch.cat(each).unflatten(0, rows.shape[:-1]) for each in zip(*parts, strict=True))
        return {"classes": classes.to(getattr(torch, index_type(self.row_shape[-1]))), "counts": counts.to(torch.uint8)}

    def decode(self, stored: Encoded) -> Distribution:
        """The weights, which sum to 1, as log-probabilities in float32."""
        counts = stored["counts"].float()
        weights = counts / counts.sum(-1, keepdim=True).clamp(min=1)
        log_weights = weights.log().clamp(min=SMALLEST_LOG)
        return Distribution(stored["classes"].to(torch.int64), log_weights, None, self.row_shape[-1])

    def error(self, rows: Float[Tensor, "batch *tokens classes"]) -> dict[str, float]:
        """The gradient's bias, which is that of rounding to 2^-40, and its variance."""
        return gradient_error(error_rows(rows), self.estimate)

    def estimate(self, rows: Float[Tensor, "rows classes"]) -> Estimate:
        """Mean and variance of the weights n / N, n being floor(N p) or ceil(N p)."""
        shares, total, num_draws, _ = draws_of(rows, self.k)
        fraction = (num_draws * shares % total).double() / total
        return shares.double() / total, (fraction * (1 - fraction) / num_draws.square()).sum(-1)


def draws_of(rows: Float[Tensor, "rows classes"], k: int) -> Draws:
    """The most draws of each row that `k` entries hold for any offset."""
    shares = (rows.double().softmax(-1) * _ONE).round().to(torch.int64)
    total = shares.sum(-1, keepdim=True)
    largest, classes = shares.topk(k, dim=-1)
    # sum of min(1, N p) <= K means: for some m, N (1 - the m largest) <= K - m
    rest = torch.cat([total, total - largest.cumsum(-1)], -1)
    entries = torch.arange(k, -1, -1, device=rows.device)
    most = torch.where(rest > 0, entries * total // rest.clamp(min=1), MOST_DRAWS)
    num_draws = most.amax(-1, keepdim=True).clamp(max=MOST_DRAWS)
    # by class and not by share: of equal shares topk may return any first
    likely = classes.masked_fill(num_draws * largest < total, rows.shape[-1]).sort(-1).values
    return Draws(shares, total, num_draws, likely)


def _draw(draws: Draws, numbers: Int64[Tensor, "rows 1"]) -> tuple[Int64[Tensor, "rows k"], Int64[Tensor, "rows k"]]:
    """The classes drawn and how often, by falling count and then by class.

    The points are offset, offset + total, ... below N total; the line has the likely classes first, then all others by
    class, each N times its share long. So no other class is longer than the distance of two points.
    """
    shares, total, num_draws, likely = draws
    num_classes, k = shares.shape[-1], likely.shape[-1]
    offset = numbers % total
    padded = torch.cat([shares, torch.zeros_like(total)], -1)
    ends = num_draws * padded.gather(-1, likely).cumsum(-1)
    drawn = (ends - offset + total - 1) // total  # points before each end
    likely_counts = drawn.diff(dim=-1, prepend=torch.zeros_like(total))
    others = padded.scatter(-1, likely, 0)[:, :num_classes].cumsum(-1)
    number = drawn[:, -1:] + torch.arange(k, device=shares.device)
    places = (offset + number * total - ends[:, -1:]) // num_draws
    # the first class that ends beyond its point
    found = torch.searchsorted(others, places, right=True).clamp(max=num_classes - 1)
    classes = torch.cat([likely, found], -1)
    counts = torch.cat([likely_counts, (number < num_draws).long()], -1)
    order = (counts * (num_classes + 1) - classes).argsort(-1, descending=True)[:, :k]
    counts = counts.gather(-1, order)
    return classes.gather(-1, order).masked_fill(counts == 0, 0), counts


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> Sampled:
    """`sample` (K = 12) or `sample:K`, for rows of logits; K is at most the number of classes."""
    if len(row_shape) not in (1, 2):
        raise ValueError(f"draws from logits (classes,) or (tokens, classes), found rows {row_shape}")
    if argument and not argument.isdecimal():
        raise ValueError(f"expected {name}:K with a whole number K, found {argument!r}")
    k = int(argument or 12)
    if not 1 <= k <= MOST_DRAWS or row_shape[-1] < 2:
        found = f"found K {k}, {row_shape[-1]} classes"
        raise ValueError(f"K must be 1 to {MOST_DRAWS}, and there must be 2 classes: {found}")
    return Sampled(min(k, row_shape[-1]), row_shape)
