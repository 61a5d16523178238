"""topk: the k largest log-probabilities with their classes, and the mass that remains.

Without the mass a divergence against the k classes alone is not one: it is unbounded below or renormalises the teacher.
With it teacher and student are compared on k + 1 outcomes, the last being "any other class" (a coarsening of the
partition, under which KL stays a divergence and never exceeds the full one: Cover & Thomas 2006, section 2.7).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shards.codecs.base import Codec, Encoded

SMALLEST_LOG = -10000.0
"""What log(0) is stored as: representable in float16, and exp of it is 0."""


@dataclass(frozen=True)
class TopKProbabilities:
    """A teacher's distribution at temperature 1, seen through its k most likely classes."""

    classes: Int[Tensor, "batch k"]
    log_probabilities: Float[Tensor, "batch k"]
    log_remaining: Float[Tensor, " batch"]
    num_classes: int


@dataclass(frozen=True)
class TopK(Codec):
    """2 + 2 bytes a class and 2 for the mass: 66 bytes a sample at k = 16 (4 + 2 a class above 65,536 classes)."""

    k: int
    num_classes: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """The codec's spec."""
        return f"topk:{self.k}"

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""
        return {"name": "topk", "k": self.k}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`classes` (sorted by falling probability), `log_probabilities` and `log_remaining`."""
        index = "uint16" if self.num_classes <= 1 << 16 else "int32"
        return {
            "classes": (index, (self.k,)),
            "log_probabilities": ("float16", (self.k,)),
            "log_remaining": ("float16", (1,)),
        }

    def encode(self, rows: Float[Tensor, "batch classes"]) -> Encoded:
        """The k largest of log_softmax(rows), and the log of what they leave, from the other classes' own logits."""
        log_probabilities = rows.double().log_softmax(-1)
        largest, classes = log_probabilities.topk(self.k, dim=-1)
        others = log_probabilities.scatter(-1, classes, -torch.inf).logsumexp(-1, keepdim=True)
        index = getattr(torch, self.arrays()["classes"][0])
        return {
            "classes": classes.to(index),
            "log_probabilities": largest.clamp(min=SMALLEST_LOG).half(),
            "log_remaining": others.clamp(min=SMALLEST_LOG).half(),
        }

    def decode(self, stored: Encoded) -> TopKProbabilities:
        """The stored distribution in float32, normalised again: rounding to float16 moves its sum off 1."""
        log_probabilities = stored["log_probabilities"].float()
        log_remaining = stored["log_remaining"].float()
        total = torch.cat([log_probabilities, log_remaining], -1).logsumexp(-1, keepdim=True)
        return TopKProbabilities(
            stored["classes"].to(torch.int64),
            log_probabilities - total,
            (log_remaining - total).squeeze(-1),
            self.num_classes,
        )

    def error(self, rows: Float[Tensor, "batch classes"]) -> dict[str, float]:
        """The mass left out, and the largest error of a kept probability."""
        decoded = self.decode(self.encode(rows))
        kept = rows.double().softmax(-1).gather(-1, decoded.classes)
        return {
            "remaining_mass_mean": round(decoded.log_remaining.exp().mean().item(), 7),
            "largest_difference": round((decoded.log_probabilities.exp() - kept).abs().max().item(), 7),
        }


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> TopK:
    """`topk` (k = 16) or `topk:K`, for rows of logits.

    With C classes k is at most C - 1: the remaining mass is then the last class's own, and nothing is lost.
    """
    if len(row_shape) != 1:
        raise ValueError(f"keeps the largest of logits (classes,), but this target's rows are {row_shape}")
    if argument and not argument.isdecimal():
        raise ValueError(f"expected {name}:K with a whole number K, found {argument!r}")
    k = int(argument or 16)
    if k < 1 or row_shape[0] < 2:
        raise ValueError(f"K must be at least 1, and there must be 2 classes: found K {k}, {row_shape[0]} classes")
    return TopK(min(k, row_shape[0] - 1), row_shape[0])
