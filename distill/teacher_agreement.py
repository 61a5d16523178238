"""Teacher agreement: how often, or how nearly, the student says what its teachers said of the validation samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from distill.terms import BoundTerm
from shards.codecs import LOGITS
from shards.codecs.distribution import Distribution

AGREEMENT, COSINE = "val_agreement", "val_cosine"
"""The share of rows with the teacher's first class (Stanton et al. 2021, arXiv:2106.05945, section 3), 0 to 1; and the
mean cosine to the teacher's features. A row is a sample, or a token that is no padding."""


class TeacherAgreement(Callback):
    """Logs `val_agreement` over the targets that are logits, and `val_cosine` over the others, at each validation.

    Both are means over the rows of all target sets that a term compares an output with. While validation runs, the
    module's terms count beside their loss, from the same outputs: there is no further forward pass.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = targets
        """The target of each target set of the run, in order."""
        self.terms: tuple[BoundTerm, ...] = ()
        self.sums: dict[str, Tensor] = {}

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """The first term between an output and a target counts, the others do not."""
        self.sums = {name: torch.zeros(2, dtype=torch.float64, device=pl_module.device) for name in (AGREEMENT, COSINE)}
        self.terms, watched, met = pl_module.terms, list[BoundTerm](), set[tuple[Any, ...]]()
        for term in self.terms:
            if isinstance(term.to, int) and len(term.of) == 1 and (term.of, term.to) not in met:
                met.add((term.of, term.to))
                term = _Watched.beside(term, self.targets[term.to] in LOGITS, self.sums)
            watched.append(term)
        pl_module.terms = tuple(watched)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """What all ranks counted."""
        for name, counted in self.sums.items():
            total, count = trainer.strategy.reduce(counted, reduce_op="sum")
            if count:
                pl_module.log(name, (total / count).float())

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The module has its own terms again."""
        pl_module.terms = self.terms


@dataclass(frozen=True)
class _Watched(BoundTerm):
    """A term that counts how well its output agrees with its target."""

    are_logits: bool = False
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    """(total, rows) by name, which each call adds to."""

    @classmethod
    def beside(cls, term: BoundTerm, are_logits: bool, sums: Mapping[str, Tensor]) -> "_Watched":
        """`term`, which counts into `sums`."""
        own = {each.name: getattr(term, each.name) for each in fields(term)}
        return cls(**own, are_logits=are_logits, sums=sums)

    def __call__(
        self,
        outputs: Mapping[str, Tensor],
        targets: Sequence[Any],
        labels: Tensor | None,
        banks: Mapping[int, Any] | None = None,
    ) -> Float[Tensor, ""]:
        """The term's own loss."""
        assert isinstance(self.to, int)
        compared, taught = targets[self.to].beside(outputs[self.of[0]])
        is_distribution = isinstance(taught, Distribution)
        if is_distribution or compared.shape == taught.shape:
            if is_distribution or self.are_logits:
                first = taught.classes[..., 0] if is_distribution else taught.argmax(-1)
                name, agreed = AGREEMENT, compared.argmax(-1) == first
            else:
                cosine = torch.nn.functional.cosine_similarity
                name, agreed = COSINE, cosine(compared.float(), taught.float(), dim=-1)
            agreed = agreed.double()
            self.sums[name].add_(torch.stack([agreed.sum(), agreed.new_tensor(agreed.numel())]))
        del compared, taught  # tokens that are no padding are a copy
        return super().__call__(outputs, targets, labels, banks)
