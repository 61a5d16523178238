"""Terms: a recipe's losses one by one; today's objective and label weight are read as terms."""

from pathlib import Path

import pytest
import torch
from training import distill, open_data, write_recipe

from distill.recipe import Recipe, load_recipe
from distill.run import build_module
from distill.terms import LABELS, Term, bind
from shards.errors import BadInput

ONE, TWO = "one-logits-float32", "two"


def recipe(**values: object) -> Recipe:
    return Recipe("test", "convnet", **values)  # type: ignore[arg-type]


def test_objective_and_label_weight_are_terms() -> None:
    alone, shared = recipe(objective="kl"), recipe(objective="kl", label_weight=0.25)
    labels = recipe(objective="supervised", label_weight=1.0)
    assert alone.losses == [Term("kl", "*", weight=1.0)]
    assert shared.losses == [Term("kl", "*", weight=0.75), Term("supervised", LABELS, weight=0.25)]
    assert labels.losses == [Term("supervised", LABELS, weight=1.0)]
    assert [each.learns_labels for each in (alone, shared, labels)] == [False, True, True]
    assert [each.learns_targets for each in (alone, shared, labels)] == [True, True, False]


def test_terms_give_the_same_loss_as_the_fields_that_they_stand_for(shards: Path) -> None:
    losses = []
    fields = {"objective": "kl:temperature=2", "label_weight": 0.25}
    terms = [
        {"loss": "kl:temperature=2", "to": "logits", "weight": 0.75},
        {"loss": "supervised", "to": "labels", "of": "logits", "weight": 0.25},
    ]
    for values in (fields, {"objective": "", "terms": terms}):
        data = open_data(shards, f"{ONE}=0.7,{TWO}=0.3", **values)
        module = build_module(data, data.recipe)
        losses.append(module.loss(next(iter(data.training_batches()))))
    assert torch.equal(*losses)


def test_a_term_between_outputs_needs_no_target(shards: Path) -> None:
    data = open_data(shards, ONE, objective="", terms=[
        {"loss": "kl", "to": "logits"}, {"loss": "supervised", "of": ["logits", "pooled"]},
    ])  # fmt: skip
    outputs = {"logits": torch.zeros(3, 5), "pooled": torch.tensor([0, 1, 4])}
    _, between = bind(data.recipe.losses, data.training.targetsets, data.training.weights)
    assert between.to is None and float(between(outputs, [], None)) == pytest.approx(
        torch.log(torch.tensor(5.0)).item()
    )


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([{"loss": "kl", "to": "tokens"}], ("a term of the recipe is to tokens", "logits")),
        ([{"loss": "supervised", "to": "labels"}], ("learns from the labels alone", "leave --targets out")),
        ([{"loss": "mse", "target": "logits"}], ("terms: no such field: target; known are loss, to, of, weight",)),
        ([{"loss": "kl", "to": "logits", "weight": 0}], ("weight 0", "above 0")),
        ([{"loss": "kl"}], ("kl is to nothing",)),
        ([{"loss": "klee", "to": "logits"}], ("unknown objective 'klee'", "kl")),
        ([{"loss": "kl", "to": "logits", "of": "shared"}], ("gives logits", "the target of shared is logits")),
    ],
)
def test_terms_that_make_no_sense_are_refused(shards: Path, tmp_path: Path, terms: list, words: tuple) -> None:
    path = write_recipe(tmp_path / "bad.yaml", objective="", terms=terms)
    distill(shards, tmp_path / "run", "--targets", ONE, "--recipe", path).refuses(*words)


def test_flags_do_not_silently_change_a_recipe_of_terms(shards: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "terms.yaml", objective="", terms=[{"loss": "kl", "to": "logits"}])
    assert load_recipe(str(path)).terms == [{"loss": "kl", "to": "logits"}]
    flags = ("--targets", ONE, "--recipe", path)
    distill(shards, tmp_path / "run", *flags, "--objective", "kl").refuses("has terms of its own")
    distill(shards, tmp_path / "run", *flags, "--max_steps", "2").succeeds()


def test_a_recipe_has_an_objective_or_terms(shards: Path, tmp_path: Path) -> None:
    both = write_recipe(tmp_path / "both.yaml", terms=[{"loss": "kl", "to": "logits"}])
    distill(shards, tmp_path / "run", "--targets", ONE, "--recipe", both).refuses("an objective or terms")
    with pytest.raises(BadInput, match="an objective or terms"):
        open_data(shards, ONE, objective="")
