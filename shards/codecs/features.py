"""Features: a teacher's rows as an objective meets them: whole or some tokens of each, padding marked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shards.codecs.codes import Codes
from shards.codecs.distribution import Distribution


@dataclass(frozen=True)
class Features:
    """One vector (batch, dim) or several tokens (batch, tokens, dim) of each sample, or a Distribution of as many."""

    rows: Float[Tensor, "batch *tokens dim"] | Distribution
    positions: Int64[Tensor, "batch kept"] | None = None
    """Where the tokens stood in the whole sequence, ascending; None where it is stored whole."""
    valid: Bool[Tensor, "batch kept"] | None = None
    """Which of the tokens are content and not padding; None where all are."""
    codes: Codes | None = None
    """What the rows are stored as, where that is an index in each of some codebooks."""

    @classmethod
    def of(cls, tokens: Float[Tensor, "batch tokens dim"], positions: Int64[Tensor, "batch kept"]) -> "Features":
        """The rows of `tokens` at `positions`; torch refuses (on a GPU: asserts) a position outside of the sequence."""
        return cls(cls(tokens, positions).take_from(tokens), positions)

    @classmethod
    def join(cls, parts: Sequence["Features"]) -> "Features":
        """The samples of all `parts`, which are stored alike, one part after the other."""
        first, *others = parts
        if not others:
            return first
        distributions = [part.rows for part in parts if isinstance(part.rows, Distribution)]
        joined = Distribution.join(distributions) if distributions else torch.cat([part.vectors for part in parts])
        positions, valid = (
            None if getattr(first, name) is None else torch.cat([getattr(part, name) for part in parts])
            for name in ("positions", "valid")
        )
        return cls(joined, positions, valid, first.codes and first.codes.join([part.codes for part in parts]))

    @property
    def vectors(self) -> Float[Tensor, "batch *tokens dim"]:
        """The rows of a network's own output, which is no Distribution yet."""
        assert isinstance(self.rows, Tensor)
        return self.rows

    def within(self, valid: Bool[Tensor, "batch tokens"] | None) -> "Features":
        """These features, knowing which tokens of the whole sequence are content; vectors stay as they are."""
        if valid is None or self.rows.dim() < 3:
            return self
        return replace(self, valid=valid if self.positions is None else valid.gather(1, self.positions))

    def take_from(self, student: Float[Tensor, "batch *tokens dim"]) -> Float[Tensor, "batch *kept dim"]:
        """The rows at the same positions of another sequence, a student's."""
        if self.positions is None:
            return student
        return student.gather(1, self.positions[..., None].expand(-1, -1, student.shape[-1]))

    def beside(self, student: Float[Tensor, "batch *tokens dim"]) -> tuple[Tensor, Any]:
        """The student's vectors and these, of the kept tokens that are content; the student saw the whole sample."""
        compared = self.take_from(student)
        return (compared, self.rows) if self.valid is None else (compared[self.valid], self.rows[self.valid])

    def __getitem__(self, samples: slice) -> "Features":
        """Some samples of the batch."""
        positions, valid = (None if x is None else x[samples] for x in (self.positions, self.valid))
        return Features(self.rows[samples], positions, valid, self.codes and self.codes[samples])

    def content(self) -> "Features":
        """The tokens of all samples that are no padding, one after the other; themselves where all are content."""
        return self if self.valid is None else Features(self.rows[self.valid])
