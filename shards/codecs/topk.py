"""topk: the k largest log-probabilities with their classes, and the mass that remains.

Without the mass a divergence against the k classes alone is not one: it is unbounded below or renormalises the teacher.
With it teacher and student are compared on k + 1 outcomes, the last being "any other class" (a coarsening of the
partition, under which KL stays a divergence and never exceeds the full one: Cover & Thomas 2006, section 2.7). Its
gradient is biased: it leaves the other classes at the shares that the student gives them, whatever the teacher's are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
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


@dataclass(frozen=True)
class TopK(Codec):
    """2 + 2 bytes a class and 2 for the mass: 66 bytes at k = 16 (4 + 2 a class above 65,536 classes), a sample or,
    of rows (tokens, classes), a token."""

    k: int
    row_shape: tuple[int, ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The codec's spec."""
        return f"topk:{self.k}"

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""
        return {"name": "topk", "k": self.k}

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`classes` (sorted by falling probability), `log_probabilities` and `log_remaining`."""
        *leading, num_classes = self.row_shape
        return {
            "classes": (index_type(num_classes), (*leading, self.k)),
            "log_probabilities": ("float16", (*leading, self.k)),
            "log_remaining": ("float16", (*leading, 1)),
        }

    def encode(self, rows: Float[Tensor, "batch *tokens classes"]) -> Encoded:
        """The k largest of log_softmax(rows), and the log of what they leave, from the other classes' own logits."""
        parts: list[tuple[Tensor, ...]] = []
        for (part,) in blocks(rows.flatten(0, -2)):
            log_probabilities = part.double().log_softmax(-1)
            largest, classes = log_probabilities.topk(self.k, dim=-1)
            others = log_probabilities.scatter(-1, classes, -torch.inf).logsumexp(-1, keepdim=True)
            parts.append((classes, largest, others))
        classes, largest, others = (torch.cat(each).unflatten(0, rows.shape[:-1]) for each in zip(*parts, strict=True))
        return {
            "classes": classes.to(getattr(torch, index_type(self.row_shape[-1]))),
            "log_probabilities": largest.clamp(min=SMALLEST_LOG).half(),
            "log_remaining": others.clamp(min=SMALLEST_LOG).half(),
        }

    def decode(self, stored: Encoded) -> Distribution:
        """The stored distribution in float32, normalised again: rounding to float16 moves its sum off 1."""
        log_probabilities = stored["log_probabilities"].float()
        log_remaining = stored["log_remaining"].float()
        total = torch.cat([log_probabilities, log_remaining], -1).logsumexp(-1, keepdim=True)
        return Distribution(
            stored["classes"].to(torch.int64),
            log_probabilities - total,
            (log_remaining - total).squeeze(-1),
            self.row_shape[-1],
        )

    def error(self, rows: Float[Tensor, "batch *tokens classes"]) -> dict[str, float]:
        """The mass left out and the largest error of a kept probability; with tokens also the gradient's bias."""
        some = error_rows(rows)
        decoded = self.decode(self.encode(some))
        assert decoded.log_remaining is not None
        kept = some.double().softmax(-1).gather(-1, decoded.classes)
        stated = {
            "remaining_mass_mean": round(decoded.log_remaining.exp().mean().item(), 7),
            "largest_difference": round((decoded.log_probabilities.exp() - kept).abs().max().item(), 7),
        }
        # manifests of rows (classes,) state what they stated in version 1, to the byte
        return stated if len(self.row_shape) == 1 else stated | gradient_error(some, self.estimate)

    def estimate(self, rows: Float[Tensor, "rows classes"]) -> Estimate:
        """What the gradient of KL on the k + 1 outcomes has in the teacher's place, without variance.

        The others' mass lies in the shares that a uniform student gives them.
        """
        decoded = self.decode(self.encode(rows))
        assert decoded.log_remaining is not None
        others = decoded.log_remaining.double().exp() / (decoded.num_classes - self.k)
        seen = others.unsqueeze(-1).repeat(1, decoded.num_classes)
        return seen.scatter(-1, decoded.classes, decoded.log_probabilities.double().exp()), torch.zeros_like(others)


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> TopK:
    """`topk` (k = 16) or `topk:K`, for rows of logits.

    With C classes k is at most C - 1: the remaining mass is then the last class's own, and nothing is lost.
    """
    if len(row_shape) not in (1, 2):
        raise ValueError(f"keeps the largest of logits (classes,) or (tokens, classes), found rows {row_shape}")
    if argument and not argument.isdecimal():
        raise ValueError(f"expected {name}:K with a whole number K, found {argument!r}")
    k = int(argument or 16)
    if k < 1 or row_shape[-1] < 2:
        raise ValueError(f"K must be at least 1, and there must be 2 classes: found K {k}, {row_shape[-1]} classes")
    return TopK(min(k, row_shape[-1] - 1), row_shape)
