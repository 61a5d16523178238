"""Distribution: a teacher's probabilities as an objective meets them, seen through a few of the classes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

SMALLEST_LOG = -10000.0
"""What log(0) is stored as: representable in float16, and exp of it is 0."""
_ERROR_ROWS = 512
_CPU_BLOCK, _GPU_BLOCK = 1 << 18, 1 << 24
"""Probabilities that are looked at together: 2 MB in float64, which stay in a core's cache, six times as fast as 32 MB;
on a GPU 128 MB, so that it has enough to do."""

Estimate = tuple[Float64[Tensor, "rows classes"], Float64[Tensor, " rows"]]
"""What stands for the teacher's probabilities p in a gradient, E p' and E||p' - E p'||^2, in closed form."""


@dataclass(frozen=True)
class Distribution:
    """A distribution at temperature 1 of each sample (batch, k), or of each of its tokens (batch, tokens, k)."""

    classes: Int64[Tensor, "batch *tokens k"]
    """By falling probability. An entry of probability 0 may repeat a class."""
    log_probabilities: Float[Tensor, "batch *tokens k"]
    log_remaining: Float[Tensor, "batch *tokens"] | None
    """Of all other classes together; None where `log_probabilities` are an estimate that leaves nothing to them."""
    num_classes: int

    @classmethod
    def join(cls, parts: Sequence["Distribution"]) -> "Distribution":
        """The samples of all `parts`, which are over the same classes, one part after the other."""
        classes, log_probabilities = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("classes", "log_probabilities")
        )
        remaining = [part.log_remaining for part in parts if part.log_remaining is not None]
        return cls(classes, log_probabilities, torch.cat(remaining) if remaining else None, parts[0].num_classes)

    def outcomes(self) -> Float[Tensor, "batch *tokens outcomes"]:
        """The log-probabilities of the k classes and, where it is known, of "any other class"."""
        if self.log_remaining is None:
            return self.log_probabilities
        return torch.cat([self.log_probabilities, self.log_remaining.unsqueeze(-1)], -1)

    def outcomes_of(self, logits: Float[Tensor, "batch *tokens classes"]) -> Float[Tensor, "batch *tokens outcomes"]:
        """The log-probabilities that `logits` give the same outcomes.

        The others' from their own logits: 1 - sum of the kept loses all digits where a network is sure.
        """
        kept = logits.gather(-1, self.classes)
        if self.log_remaining is None:
            return kept - logits.logsumexp(-1, keepdim=True)
        rest = logits.scatter(-1, self.classes, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([kept, rest], -1).log_softmax(-1)

    def dim(self) -> int:
        """Axes, as of a tensor: 3 where each token has a distribution."""
        return self.classes.dim()

    def __getitem__(self, index: Any) -> "Distribution":
        """Some samples of the batch, or under a mask (batch, tokens) some tokens as a batch."""
        remaining = None if self.log_remaining is None else self.log_remaining[index]
        return Distribution(self.classes[index], self.log_probabilities[index], remaining, self.num_classes)


def index_type(num_classes: int) -> str:
    """The data type that classes are stored in."""
    return "uint16" if num_classes <= 1 << 16 else "int32"


def blocks(*arrays: Shaped[Tensor, "rows ..."]) -> Iterator[tuple[Tensor, ...]]:
    """`arrays` some rows at a time, so that float64 copies of the first one's stay small.

    A text block of 256 tokens over 30,522 classes would be 62 MB in float64, a batch of 64 of these 4 GB.
    """
    step = max(1, (_CPU_BLOCK if arrays[0].device.type == "cpu" else _GPU_BLOCK) // arrays[0].shape[-1])
    for start in range(0, len(arrays[0]), step):
        yield tuple(array[start : start + step] for array in arrays)


def error_rows(rows: Float[Tensor, "batch *tokens classes"]) -> Float[Tensor, "rows classes"]:
    """At most 512 distributions, at even distances: enough to tell a codec's error."""
    flat = rows.flatten(0, -2)
    return flat[:: -(-len(flat) // _ERROR_ROWS)]


def gradient_error(
    rows: Float[Tensor, "rows classes"], estimate: Callable[[Float[Tensor, "rows classes"]], Estimate]
) -> dict[str, float]:
    """Bias and variance of the gradient of KL with respect to a student's logits, when a codec stands for the teacher.

    That gradient is g = q - p, of a student's probabilities q and the teacher's p; with a codec's p' for p it is
    g' = q - p'. `gradient_bias` is ||E g' - g|| / ||g|| and `gradient_variance` is E||g' - E g'||^2 / ||g||^2, over
    the draws, with squares summed over all rows, for a student that knows nothing yet: q uniform.
    """
    bias = variance = gradient = 0.0
    for (part,) in blocks(rows):
        p = part.double().softmax(-1)
        expected, spread = estimate(part)
        bias += (expected - p).square().sum().item()
        variance += spread.sum().item()
        gradient += (1 / p.shape[-1] - p).square().sum().item()
    gradient = max(gradient, 1e-12)  # a teacher may know nothing either
    return {"gradient_bias": round((bias / gradient) ** 0.5, 7), "gradient_variance": round(variance / gradient, 7)}
