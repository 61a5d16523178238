"""Recipe: student, objective and hyperparameters in one YAML file; what a cache holds picks the recipe that fits."""

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from distill.config import DistillConfig
from distill.objectives import make_objective
from distill.peak_rate import peak_rate
from distill.terms import LABELS, Term, parse_term, to_objective
from shards.command import settings
from shards.command.ranges import Betas, Count, NotNegative, Positive, Precision, Range, Seed, Share, ShareBelowOne
from shards.command.settings import given_flags, parse_settings, read_named_yaml
from shards.errors import BadInput
from shards.read_flag import parse_read
from shards.views import DEFAULT_MODALITY

TARGETS = "targets"
FOLDER = Path(__file__).parent / "recipes"
FACTS = ("source", "modality", "target", "teacher")
"""What a cache is known by; a recipe's `fits` has a pattern for some of them."""
_Patterns = Annotated[dict[str, str], Range(f"patterns on {', '.join(FACTS)}", lambda fits: fits.keys() <= set(FACTS))]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is trained; DistillConfig's flags override its fields of the same name."""

    name: str
    student: str
    objective: str = ""
    """A loss to every target, as --objective names it; left out where `terms` has all losses."""
    fits: _Patterns = field(default_factory=dict)
    """Patterns on FACTS."""
    init: str = "random"
    reads: Annotated[str, Range("views or targets", lambda reads: reads in ("views", TARGETS))] = "views"
    """What the student is fed: views, or the targets of two towers, which are never loaded."""
    input: dict[str, Any] | None = None
    """The student's own: mean and std, three numbers each, of pixels in [0, 1]; the first teacher's by default."""
    label_weight: Share = 0.0
    """The share of cross-entropy with the labels beside the objective."""
    terms: list[dict[str, Any]] | None = None
    """Losses that are summed, each with loss, to, of and weight (distill/terms.py); in place of the two above."""
    epochs: Count = 10
    min_steps: Count | None = None
    """More epochs, until they have so many optimiser steps: what suits ImageNet is too short for a small cache."""
    max_steps: Count | None = None
    views: Count | None = None
    """The first so many views of the cache; all by default. A run saves how many it had, for a cache grows."""
    views_a_batch: Count = 1
    """Views of a sample in a batch, beside each other, whose image is then decoded once (--read says so too)."""
    batch_size: Count = 256
    accumulate: Count = 1
    grad_cache: Count = 1
    """Parts that a batch's outputs are computed in, twice, so that losses between samples see all of a large batch."""
    lr: Positive | None = None
    """Left out: what suits the student and the batch (`peak_rate`); `resolve` fills it in."""
    weight_decay: NotNegative = 0.01
    betas: Betas = (0.9, 0.98)
    eps: Positive = 1e-6
    warmup: Share = 0.1
    clip_norm: Positive | None = None
    precision: Precision = "float32"
    compile: bool = False
    seed: Seed = 0
    validation_fraction: ShareBelowOne = 0.05
    """Held out by key where the cache has no validation split."""
    checkpoint_every: Count = 1000
    """Optimiser steps between checkpoints."""

    @property
    def losses(self) -> list[Term]:
        """The terms whose sum is trained on; BadInput for what is none."""
        if self.terms is None:
            return to_objective(self.objective, self.label_weight)
        return [parse_term(self.name, values) for values in self.terms]

    @property
    def learns_labels(self) -> bool:
        """Whether a term is to the labels."""
        return any(term.to == LABELS for term in self.losses)

    @property
    def learns_targets(self) -> bool:
        """Whether a term is to a teacher's target, or the student reads them."""
        return self.reads == TARGETS or any(term.to not in (LABELS, None) for term in self.losses)

    @property
    def patterns(self) -> dict[str, str]:
        """`fits`; no recipe of images is for a cache of another modality because it does not say so."""
        return {"modality": DEFAULT_MODALITY} | self.fits if self.fits else {}

    def is_for(self, target: str) -> bool:
        """Whether the recipe is meant for targets of that name, and not for any target."""
        pattern = self.fits.get("target", "*")
        return pattern.strip("*") != "" and fnmatchcase(target, pattern)


def load_recipe(name: str) -> Recipe:
    """The recipe of that name, or in that YAML file."""
    values, path = read_named_yaml("recipe", name, FOLDER)
    return parse_settings(Recipe, {"name": path.stem} | values, f"--recipe {path}")


def resolve(recipe: Recipe, config: DistillConfig) -> Recipe:
    """The recipe with the flags that were given in place of its own values; BadInput where they do not go together."""
    if config.epochs is not None:
        recipe = replace(recipe, min_steps=None, max_steps=None)  # the flag says how long, not the recipe
    recipe = replace(recipe, views_a_batch=parse_read(config.read).views_a_batch or recipe.views_a_batch)
    resolved = replace(recipe, **given_flags(Recipe, config))
    if recipe.terms is not None and (config.objective or config.label_weight is not None):
        own = f"the recipe {recipe.name} has terms of its own"
        raise BadInput(f"--objective: {own}; change them there")
    if (resolved.terms is None) != bool(resolved.objective):
        raise BadInput(f"--recipe {recipe.name}: expected an objective or terms, one of the two")
    if resolved.terms is None:
        make_objective(resolved.objective)  # refuses what is no objective
    _ = resolved.losses  # refuses what is no term
    if resolved.objective == "supervised" and resolved.label_weight != 1:
        only = "the objective supervised is cross-entropy with the labels alone: expected 1"
        raise BadInput(f"--objective label_weight={resolved.label_weight}: {only}")
    if resolved.lr is None:
        resolved = replace(resolved, lr=peak_rate(resolved.student, resolved.batch_size))
    return resolved


def long_enough(recipe: Recipe, steps_an_epoch: int) -> Recipe:
    """The recipe with as many epochs as its `min_steps` take."""
    if recipe.min_steps is None or recipe.max_steps is not None:
        return replace(recipe, min_steps=None)
    epochs = max(recipe.epochs, -(-recipe.min_steps // steps_an_epoch))
    return replace(recipe, epochs=epochs, min_steps=None)


def as_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, to be saved beside a run and read back by `load_recipe`."""
    values = settings.as_values(recipe)
    later = {"input": None, "terms": None, "grad_cache": 1, "views_a_batch": 1, "reads": "views"}  # not in older runs
    return {name: value for name, value in values.items() if name not in later or value != later[name]}
