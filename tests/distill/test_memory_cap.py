"""--max_memory: the fewest parts of a batch whose step is counted to fit, the batch as it is; or one line."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensor
from training import distill, open_data, same, write_recipe

from distill import students
from distill.config import DistillConfig
from distill.data import CacheData
from distill.memory import blank_batch, counted, step_bytes, untouched, within_memory
from distill.module import Distillation
from distill.recipe import Recipe, load_recipe
from distill.run import build_module
from distill.students import Student
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


@pytest.mark.slow
def test_the_fewest_parts_that_fit_are_taken_and_the_module_stays_as_it_is(shards: Path) -> None:
    module, data = module_of(shards, NoNorm())
    before = {name: rows.clone() for name, rows in module.state_dict().items()}
    state, own = torch.get_rng_state(), data.recipe
    taken = {parts: step_bytes(module, data, 16, parts) for parts in (1, 2, 4, 8, 16)}
    assert sorted(taken.values(), reverse=True) == list(taken.values()) and taken[1] > taken[2] > taken[4]
    for parts in (1, 2, 4):
        assert capped(module, data, taken[parts]) == replace(own, grad_cache=parts)  # as a plan counts it
        assert module.most_samples == 16 // parts and module.recipe is data.recipe is own
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(rows, before[name]) for name, rows in module.state_dict().items())
    assert {type(rows) for rows in module.parameters()} == {torch.nn.Parameter}


@pytest.mark.slow
def test_what_parts_take_is_what_a_step_of_all_of_them_takes(shards: Path) -> None:
    """Two parts are counted for any number of them; here all are, of the same small tensors."""
    module, data = module_of(shards, NoNorm())
    banks = dict[str, int]()
    for parts in (4, 8):
        module.most_samples = 16 // parts
        with untouched(module):
            whole = counted(module, blank_batch(module, data, banks), 16, banks)
        assert step_bytes(module, data, 16, parts) == pytest.approx(whole, rel=0.01)


def test_where_losses_compare_samples_the_outputs_alone_are_in_parts(shards: Path) -> None:
    module, data = module_of(shards, NoNorm())
    module.terms[0].objective.__dict__["compares_samples"] = True  # as contrastive is one
    whole, half = (step_bytes(module, data, 16, parts) for parts in (1, 2))
    assert half < whole
    capped(module, data, half)
    assert module.most_samples == 8 and data.recipe.grad_cache == 1
    batch, sizes = next(iter(data.training_batches())), list[int]()
    module.student.register_forward_hook(lambda network, inputs, outputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        module.loss(batch, validating=False)
    assert sizes == [8, 8]


@pytest.mark.parametrize("name", ["shre", "s-smke", "clip-kd"])
def test_recipes_that_compare_samples_are_known(name: str) -> None:
    from distill.objectives import make_objective

    losses = [make_objective(term.loss) for term in load_recipe(name).losses]
    assert any(getattr(loss, "compares_samples", False) for loss in losses)


@pytest.mark.slow
def test_what_cannot_be_cut_or_does_not_fit_is_refused_before_anything_is_written(shards: Path, tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path / "test.yaml"), tmp_path / "run"
    module, data = module_of(shards, student=None)
    taken = {parts: step_bytes(module, data, 16, parts) for parts in (1, 2, 8, 16)}
    normalises = distill(shards, run, *ONE, "--recipe", recipe, "--max_memory", f"{int(taken[2])}B")
    normalises.refuses("--max_memory", "normalises over it", "give --batch_size 8, which fits, or accumulate: 2")
    for parts, fit in ((8, "2"), (16, "1")):  # so few have no statistics
        few = distill(shards, run, *ONE, "--recipe", recipe, "--max_memory", f"{int(taken[parts])}B")
        few.refuses("normalises over it", f"parts of {fit} fit", "a smaller --student")
        assert "accumulate:" not in few.err and "--batch_size" not in few.err
    small = distill(shards, run, *ONE, "--recipe", recipe, "--max_memory", "1kB")
    small.refuses("--max_memory 1kB: a step in 16 parts still takes", "a smaller --student")
    distill(shards, run, *ONE, "--recipe", recipe, "--max_memory", "lots").refuses("expected a size above 0")
    assert not (run / "run.json").exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_that_counted_its_parts_as_its_own_goes_on_in_them(shards: Path, tmp_path: Path) -> None:
    """As an earlier version wrote the parts that --max_memory chose: into run.json and recipe.yaml."""
    capped = ("--max_memory", "24GB")
    parts = write_recipe(tmp_path / "parts/test.yaml", epochs=1, accumulate=2)
    whole = write_recipe(tmp_path / "whole/test.yaml", epochs=1)
    begun, run, other = (tmp_path / name for name in ("begun", "run", "other"))
    distill(shards, begun, *ONE, "--recipe", parts, *capped).succeeds()
    for folder in (run, other):
        folder.mkdir()
        for name in ("run.json", "recipe.yaml", "config.yaml"):
            shutil.copy(begun / name, folder / name)
        document = json.loads((folder / "run.json").read_bytes())
        assert document.pop("parts") == "own"  # which that version did not say
        (folder / "run.json").write_text(json.dumps(document))
    for cap in (capped, ()):
        done = distill(shards, run, *ONE, "--recipe", whole, *cap).succeeds()
        assert "in the parts that --max_memory 24GB gave it (accumulate: 2, grad_cache: 1)" in done.out
        assert same(run, begun)
        (run / "summary.json").unlink()
    saved = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump(saved | {"max_memory": None}))
    refused = distill(shards, other, *ONE, "--recipe", whole, *capped)
    refused.refuses("recipe.accumulate: the run has 2, asked for 1")
    (other / "config.yaml").write_text(yaml.safe_dump(saved | {"accumulate": 2}))  # a flag, which no cap has chosen
    distill(shards, other, *ONE, "--recipe", whole, *capped).refuses("recipe.accumulate: the run has 2, asked for 1")


@pytest.mark.slow
@pytest.mark.parametrize("field", ["accumulate", "grad_cache"])
def test_parts_of_a_recipe_are_not_taken_for_those_of_a_cap(shards: Path, tmp_path: Path, field: str) -> None:
    """A run that was begun under a cap, too, is another run than one whose recipe has other parts."""
    flags = (*ONE, "--max_memory", "24GB", "--recipe")
    parts = write_recipe(tmp_path / "parts/test.yaml", epochs=1, **{field: 2})
    whole = write_recipe(tmp_path / "whole/test.yaml", epochs=1)
    begun = distill(shards, tmp_path / "run", *flags, parts)
    (tmp_path / "run/summary.json").unlink()
    distill(shards, tmp_path / "run", *flags, whole).refuses(f"recipe.{field}: the run has 2, asked for ")
    assert begun.succeeds() and "goes on in" not in begun.out
    distill(shards, tmp_path / "run", *flags, parts).succeeds()


def test_a_step_from_encoded_targets_and_labels_is_counted(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", epochs=1, label_weight=0.5)
    flags = ("--targets", "one-logits-topk3", "--recipe", recipe, "--max_memory", "24GB")
    assert "in one part: " in distill(shards, tmp_path / "run", *flags).succeeds().out


def test_a_cap_is_a_size(shards: Path) -> None:
    module, data = module_of(shards)
    with pytest.raises(BadInput, match="expected a size above 0, as --max_memory 24GB"):
        within_memory(DistillConfig(shards=".", max_memory="0"), module, data, Devices("cpu"))


class Exhausting(NoNorm):
    """Asks for more memory than there is, as a GPU's allocator says it, when it learns."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if torch.is_grad_enabled() and not isinstance(images, FakeTensor):
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1 GiB that is free."
            )
        return super().forward(images)


def test_a_device_without_memory_is_one_line_that_says_what_to_lower(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = ModuleType("exhausting")
    registered.build = lambda request: Student(Exhausting(), request.inputs, "exhausting", {}, 10)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "exhausting", registered)
    monkeypatch.setitem(students.REGISTRY, "exhausting", "exhausting")
    flags = (*ONE, "--recipe", write_recipe(tmp_path / "test.yaml", student="exhausting"))
    used_up = "distill: CUDA out of memory. Tried to allocate 20.00 GiB; "
    distill(shards, tmp_path / "run", *flags, "--plan", "seconds=0.5").refuses(used_up)
    distill(shards, tmp_path / "run", *flags).refuses(used_up + "give --max_memory 24GB", "--batch_size below 16")
    capped = distill(shards, tmp_path / "run", *flags, "--max_memory", "24GB")
    capped.refuses(used_up + "kernels take more than is counted: give --max_memory below 24GB")
