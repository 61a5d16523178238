"""Terms: a recipe's loss is a weighted sum of losses, each of some outputs of the student to one target."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor, nn

from distill.objectives import make_objective
from distill.qualified import EVERY_TARGET, is_to
from shards.command.ranges import CountFromZero, Positive
from shards.command.settings import parse_settings
from shards.errors import BadInput
from shards.reader import TargetSet

if TYPE_CHECKING:
    from distill.objectives.base import Objective

LABELS = "labels"


@dataclass(frozen=True)
class Term:
    """One loss of a recipe's `terms`."""

    loss: str
    """An objective with its arguments: kl:temperature=2."""
    to: str | None = None
    """A target as `is_to` reads it (its sets share the weight as --targets says), labels, or None: between outputs."""
    of: tuple[str, ...] = ()
    """The student's outputs; by default the one of the target's name, and logits to labels. In the name of one, as in
    image/*, the target's name takes the place of *."""
    weight: Positive = 1.0
    bank: CountFromZero = 0
    """Rows of the target that other samples have, which the objective is given too, as `bank`; drawn for each step."""


@dataclass(frozen=True)
class BoundTerm:
    """A term of the target sets that a run reads."""

    objective: "Objective"
    of: tuple[str, ...]
    to: int | str | None
    """The number of a target set among those of the run, LABELS, or None."""
    weight: float
    bank: int = 0

    def __call__(
        self,
        outputs: Mapping[str, Tensor],
        targets: Sequence[Any],
        labels: Tensor | None,
        banks: Mapping[int, Any] | None = None,
    ) -> Float[Tensor, ""]:
        """The weighted loss on one batch; `banks` are the targets of other samples, by the number of the target set."""
        target = {LABELS: labels, None: None}.get(self.to) if not isinstance(self.to, int) else targets[self.to]
        arguments = [outputs[name] for name in self.of] + ([] if self.to is None else [target])
        others = {"bank": banks[self.to]} if self.bank and banks and isinstance(self.to, int) else {}
        return self.weight * self.objective(*arguments, **others)


def parse_term(recipe: str, values: dict[str, Any]) -> Term:
    """One entry of a recipe's `terms`; BadInput, which names the recipe, for what is none."""
    if isinstance(values.get("of"), str):
        values = values | {"of": [values["of"]]}
    term = parse_settings(Term, values, f"--recipe {recipe}: terms")
    if term.to is None and len(term.of) < 2:
        raise BadInput(f"--recipe {recipe}: terms: {term.loss} is to nothing: say `to`, or two outputs in `of`")
    objective = make_objective(term.loss)  # refuses what is no objective
    if term.bank and (term.to in (LABELS, None) or not takes_bank(objective)):
        raise BadInput(f"--recipe {recipe}: terms: bank {term.bank}: {term.loss} to {term.to} takes none; leave it out")
    return term


def takes_bank(objective: "Objective") -> bool:
    """Whether an objective can be given the rows of further samples."""
    called = objective.forward if isinstance(objective, nn.Module) else objective.__call__
    return "bank" in inspect.signature(called).parameters


def bank_sizes(terms: Sequence[Term], targetsets: Sequence[TargetSet]) -> dict[int, int]:
    """How many further rows the terms take of each target set, by its number; BadInput where two take other numbers."""
    sizes: dict[int, int] = {}
    for number, targetset in enumerate(targetsets):
        taken = {term.bank for term in terms if is_to(term.to, targetset.manifest)} - {0}
        if len(taken) > 1:
            shown = " and ".join(map(str, sorted(taken)))
            raise BadInput(f"--recipe: terms: banks of {shown} rows of {targetset.manifest.target}; give one size")
        sizes |= dict.fromkeys([number] if taken else [], sum(taken))
    return sizes


def to_objective(objective: str, label_weight: float) -> list[Term]:
    """The terms that a recipe without any stands for: its objective to every target, its label weight to the labels."""
    targets = [] if objective == "supervised" else [Term(objective, EVERY_TARGET, weight=1 - label_weight)]
    return targets + ([Term("supervised", LABELS, weight=label_weight)] if label_weight > 0 else [])


def bind(
    terms: Sequence[Term], targetsets: Sequence[TargetSet], weights: Sequence[float], are_inputs: bool = False
) -> list[BoundTerm]:
    """The terms over these target sets, which share a term's weight by `weights`.

    BadInput where a term has no target set, or a target set no term, unless target sets `are_inputs` of the student.
    """
    bound: list[BoundTerm] = []
    for term in terms:
        if term.to in (LABELS, None):
            bound.append(BoundTerm(make_objective(term.loss), term.of or ("logits",), term.to, term.weight))
        elif targetsets:
            bound += _to_targets(term, targetsets, weights)
    for number, targetset in enumerate(targetsets):
        if number not in {term.to for term in bound} and not are_inputs:
            raise BadInput(f"--targets: no term of the recipe is to {targetset.folder.name}; leave it out")
    return bound


def _to_targets(term: Term, targetsets: Sequence[TargetSet], weights: Sequence[float]) -> list[BoundTerm]:
    objective = make_objective(term.loss)
    targets = [targetset.manifest.target for targetset in targetsets]
    numbers = [number for number, targetset in enumerate(targetsets) if is_to(term.to, targetset.manifest)]
    if not numbers:
        raise BadInput(f"--targets: a term of the recipe is to {term.to}, and they hold {', '.join(targets)}")
    for number in numbers:
        targetset = targetsets[number]
        codec = targetset.manifest.codec
        if refusal := objective.refusal(targets[number], codec):
            found = f"{targetset.folder.name} holds {targets[number]} as {codec}; name another"
            raise BadInput(f"--targets: objective {term.loss} {refusal}; {found}")
        if term.bank and len(targetset.row_shape) > 1:
            found = f"{targetset.folder.name} has {targetset.row_shape}: name another, or leave the bank out"
            raise BadInput(f"--targets: a term with a bank needs one row a sample; {found}")
    total = sum(weights[number] for number in numbers)
    return [
        BoundTerm(objective, _outputs(term, targets[number]), number, term.weight * weights[number] / total, term.bank)
        for number in numbers
    ]


def _outputs(term: Term, target: str) -> tuple[str, ...]:
    """The outputs that a term to `target` is of; * stands for the target's name."""
    return tuple(name.replace(EVERY_TARGET, target) for name in term.of) or (target,)
