"""--max_memory: the fewest parts of a batch whose step is counted to fit, the batch as it is; or one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from training import distill, open_data, write_recipe

from distill.config import DistillConfig
from distill.data import CacheData
from distill.memory import step_bytes, within_memory
from distill.module import Distillation
from distill.recipe import Recipe, load_recipe
from distill.run import build_module
from shards.command.devices import Devices
from shards.errors import BadInput

ONE = ("--targets", "one-logits-float32")


class NoNorm(torch.nn.Module):
    """A classifier that normalises over no batch."""

    def __init__(self) -> None:
        super().__init__()
        first, second = torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.Conv2d(32, 32, 3, padding=1)
        self.hidden = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU())
        self.head = torch.nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.hidden(images).mean((2, 3))
        return {"logits": self.head(pooled), "pooled": pooled}


def module_of(shards: Path, student: torch.nn.Module | None = None, **values: object) -> tuple[Distillation, CacheData]:
    data = open_data(shards, **values)
    module = build_module(data, data.recipe)
    if student is not None:
        module.student = student
    return module, data


def capped(module: Distillation, data: CacheData, cap: float) -> Recipe:
    return within_memory(DistillConfig(shards=".", max_memory=f"{int(cap)}B"), module, data, Devices("cpu"))


def test_the_fewest_parts_that_fit_are_taken_and_the_module_stays_as_it_is(shards: Path) -> None:
    module, data = module_of(shards, NoNorm())
    before = {name: rows.clone() for name, rows in module.state_dict().items()}
    state = torch.get_rng_state()
    taken = {parts: step_bytes(module, data, "accumulate", 16, parts) for parts in (1, 2, 4, 8, 16)}
    assert sorted(taken.values(), reverse=True) == list(taken.values()) and taken[1] > taken[2] > taken[4]
    for parts in (1, 2, 4):
        module.recipe = data.recipe = replace(data.recipe, accumulate=1)
        recipe = capped(module, data, taken[parts])
        assert (recipe.accumulate, recipe.grad_cache, recipe.batch_size) == (parts, 1, 16)
        assert module.recipe is recipe is data.recipe
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(rows, before[name]) for name, rows in module.state_dict().items())
    assert {type(rows) for rows in module.parameters()} == {torch.nn.Parameter}


def test_where_losses_compare_samples_the_parts_are_cached_and_not_accumulated(shards: Path) -> None:
    module, data = module_of(shards, NoNorm())
    module.terms[0].objective.__dict__["compares_samples"] = True  # as contrastive is one
    whole, half = (step_bytes(module, data, "grad_cache", 16, parts) for parts in (1, 2))
    assert half < whole
    recipe = capped(module, data, half)
    assert (recipe.accumulate, recipe.grad_cache) == (1, 2)


@pytest.mark.parametrize("name", ["shre", "s-smke", "clip-kd"])
def test_recipes_that_compare_samples_are_known(name: str) -> None:
    from distill.objectives import make_objective

    losses = [make_objective(term.loss) for term in load_recipe(name).losses]
    assert any(getattr(loss, "compares_samples", False) for loss in losses)


def test_what_cannot_be_cut_or_does_not_fit_is_refused_before_anything_is_written(shards: Path, tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path / "test.yaml"), tmp_path / "run"
    module, data = module_of(shards, student=None)
    taken = {parts: step_bytes(module, data, "accumulate", 16, parts) for parts in (1, 2)}
    normalises = distill(shards, run, *ONE, "--recipe", recipe, "--max_memory", f"{int(taken[2])}B")
    normalises.refuses("--max_memory", "normalises over it", "give --batch_size 8, which fits, or accumulate: 2")
    small = distill(shards, run, *ONE, "--recipe", recipe, "--max_memory", "1kB")
    small.refuses("--max_memory 1kB: a step in 16 parts still takes", "a smaller --student")
    distill(shards, run, *ONE, "--recipe", recipe, "--max_memory", "lots").refuses("expected a size above 0")
    assert not (run / "run.json").exists()


def test_a_cap_with_room_changes_nothing(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", epochs=1)
    flags = (*ONE, "--recipe", recipe)
    done = distill(shards, tmp_path / "capped", *flags, "--max_memory", "24GB").succeeds()
    assert "distill: --max_memory 24GB: a batch of 16 in one part: " in done.out
    distill(shards, tmp_path / "free", *flags).succeeds()
    runs = [tmp_path / name for name in ("capped", "free")]
    assert len({(run / "student.safetensors").read_bytes() for run in runs}) == 1
    assert len({(run / "run.json").read_bytes() for run in runs}) == 1
    assert yaml.safe_load((runs[0] / "config.yaml").read_text())["max_memory"] == "24GB"


def test_a_step_from_encoded_targets_and_labels_is_counted(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", epochs=1, label_weight=0.5)
    flags = ("--targets", "one-logits-topk3", "--recipe", recipe, "--max_memory", "24GB")
    assert "in one part: " in distill(shards, tmp_path / "run", *flags).succeeds().out


def test_a_cap_is_a_size(shards: Path) -> None:
    module, data = module_of(shards)
    with pytest.raises(BadInput, match="expected a size above 0, as --max_memory 24GB"):
        within_memory(DistillConfig(shards=".", max_memory="0"), module, data, Devices("cpu"))
