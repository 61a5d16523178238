"""An interrupted run, resumed, ends with the very same student as one that was never interrupted."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import caches
import pytest
import torch
from training import distill, last, make_recipe, open_data, same, write_recipe

from distill.checkpoints import Checkpoints, resumable
from distill.run import build_module
from distill.trainer import Elapsed, fit, make_trainer
from shards.command.devices import Devices

ONE = ("--targets", "one-logits-float32")
TWO = ("--targets", "two-logits-float32")

CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "accumulation, a cut last epoch": (ONE, {"checkpoint_every": 1, "accumulate": 2, "max_steps": 6}),
    "validation split": (ONE, {"checkpoint_every": 1}),
    "dropout, held out by key": (
        TWO,
        {"checkpoint_every": 3, "student": "mobilenet_v3_small", "batch_size": 24, "validation_fraction": 0.2},
    ),
    "no validation, labels too": (TWO, {"checkpoint_every": 2, "validation_fraction": 0.0, "label_weight": 0.5}),
}


class Recorder(Checkpoints):
    """Keeps a copy of the checkpoints' folder as it was after each write: every state that a kill can leave."""

    states: list[Path]

    def keep(self) -> None:
        kept = self.folder.parent / f"state-{len(self.states)}"
        if self.folder.exists():
            self.states.append(Path(shutil.copytree(self.folder, kept)))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_validation_end(trainer, pl_module)
        self.keep()

    def _save(self, trainer: Any, pl_module: Any) -> None:
        super()._save(trainer, pl_module)
        self.keep()


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if number else ()) for number, case in enumerate(CASES)]
)
def test_every_state_that_a_kill_can_leave_resumes_to_the_same_student(case: str, shards: Path, tmp_path: Path) -> None:
    flags, values = CASES[case]
    whole, recorded = tmp_path / "whole", tmp_path / "recorded"
    recipe = write_recipe(tmp_path / "test.yaml", **values)
    distill(shards, whole, *flags, "--recipe", recipe).succeeds()
    data = open_data(shards, flags[1], **values)
    recorder = Recorder(recorded / "checkpoints", data.recipe.checkpoint_every)
    recorder.states = []
    fit(
        make_trainer(Devices("cpu"), data.recipe, recorded, [Elapsed(), recorder], []),
        build_module(data, data.recipe),
        data,
        None,
    )
    steps = set()
    assert len(recorder.states) >= 4
    for number, state in list(enumerate(recorder.states))[1 :: 2 if "dropout" in case else 1]:
        run = tmp_path / f"resumed-{number}"
        run.mkdir()
        for name in ("run.json", "recipe.yaml", "config.yaml"):
            shutil.copy(whole / name, run / name)
        shutil.copytree(state, run / "checkpoints")
        resumed = resumable(run / "checkpoints")
        step = last(run)["global_step"] if resumed else 0
        steps.add(step)
        outcome = distill(shards, run, *flags, "--recipe", recipe).succeeds()
        assert (f"resumes at step {step} of" in outcome.out) == (0 < step < last(whole)["global_step"])
        assert same(run, whole), f"resumed from {state.name} of {len(recorder.states)}"
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, whole)]
        for field in ("steps", "best_step", "best_val_loss"):
            assert summaries[0][field] == summaries[1][field], (state.name, field)
    assert len(steps) >= 2


def test_checkpoints_hold_tensors_and_numbers_alone(shards: Path, tmp_path: Path) -> None:
    distill(shards, tmp_path / "run", *ONE, "--recipe", write_recipe(tmp_path / "test.yaml")).succeeds()
    state = last(tmp_path / "run")  # with weights_only=True
    assert state["global_step"] == 8 and state["epoch"] == 1
    assert {name.partition(".")[0] for name in state["state_dict"]} == {"student"}


def test_a_finished_run_is_not_trained_again(shards: Path, tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path / "test.yaml"), tmp_path / "run"
    distill(shards, run, *ONE, "--recipe", recipe).succeeds()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    again = distill(shards, run, *ONE, "--recipe", recipe).succeeds()
    assert "finished before" in again.out and str(run) in again.out
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_another_run_in_the_same_folder_is_refused_field_by_field(shards: Path, tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path / "test.yaml"), tmp_path / "run"
    distill(shards, run, *ONE, "--recipe", recipe).succeeds()
    other = distill(shards, run, *ONE, "--recipe", recipe, "--lr", "0.5", "--seed", "3")
    other.refuses("recipe.lr: the run has 0.01, asked for 0.5", "recipe.seed: the run has 0, asked for 3", "--run_dir")
    distill(shards, run, *TWO, "--recipe", recipe).refuses("cache.targetsets", "validation")
    distill(shards, run, *ONE, "--recipe", recipe).succeeds()


def test_a_folder_that_is_no_run_is_refused_and_one_killed_at_its_start_is_not(shards: Path, tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path / "test.yaml"), tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("half")
    (run / ".partial-1-recipe.yaml").write_text("half")
    distill(shards, run, *ONE, "--recipe", recipe).succeeds()
    assert "half" not in (run / "config.yaml").read_text()
    for content in ("photo.jpg", "summary.json"):
        (tmp_path / content.partition(".")[0]).mkdir()
        (tmp_path / content.partition(".")[0] / content).write_text("{}")
        distill(shards, tmp_path / content.partition(".")[0], *ONE, "--recipe", recipe).refuses("holds no run")


def test_two_at_once_are_refused(shards: Path, tmp_path: Path) -> None:
    from distill.folder import only_run

    with only_run(tmp_path / "run"):
        recipe = write_recipe(tmp_path / "test.yaml")
        distill(shards, tmp_path / "run", *ONE, "--recipe", recipe).refuses("another distill trains here")


def test_damaged_checkpoints_are_refused(shards: Path, tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path / "test.yaml"), tmp_path / "run"
    distill(shards, run, *ONE, "--recipe", recipe).succeeds()
    (run / "summary.json").unlink()
    for name, remedy in (("last.ckpt", "remove it"), ("best.safetensors", "remove the run's folder")):
        path = run / "checkpoints" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        distill(shards, run, *ONE, "--recipe", recipe).refuses(name, remedy)
        path.write_bytes(whole)
    distill(shards, run, *ONE, "--recipe", recipe).succeeds()


@pytest.mark.slow
def test_a_run_goes_on_with_the_views_it_began_with(
    own_shards: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", epochs=5)
    whole, run = tmp_path / "whole", tmp_path / "run"
    distill(own_shards, whole, *ONE, "--recipe", recipe).succeeds()
    shutil.copytree(whole, run)
    for name in ("summary.json", "checkpoints/last.ckpt", "checkpoints/best.safetensors"):
        (run / name).unlink()
    grow = ("--out", own_shards, "--devices", "cpu", "--views", "4")
    caches.extract("--teacher", f"run:{teachers['one']}", "--codec", "float32", *grow)
    distill(own_shards, run, *ONE, "--recipe", recipe).succeeds()
    assert same(run, whole)
    distill(own_shards, tmp_path / "new", *ONE, "--recipe", recipe).succeeds()
    assert not same(tmp_path / "new", whole)  # epoch 3 saw view 3 there
    caches.command("distill", "--config", whole / "config.yaml", "--run_dir", tmp_path / "fed back").succeeds()
    assert same(tmp_path / "fed back", whole)


def test_weights_that_are_no_numbers_end_the_run(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", validation_fraction=0.0, checkpoint_every=1)
    outcome = distill(shards, tmp_path / "run", *TWO, "--recipe", recipe, "--lr", "1e30")
    outcome.refuses("NaN", "--lr")
    best = tmp_path / "run/checkpoints/last.ckpt"
    assert not best.exists() or all(math.isfinite(v.sum()) for v in last(tmp_path / "run")["state_dict"].values())


def test_training_does_not_depend_on_the_generator_before_it(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", student="mobilenet_v3_small", max_steps=2)
    for seed in (1, 2):
        torch.manual_seed(seed)
        distill(shards, tmp_path / str(seed), *ONE, "--recipe", recipe).succeeds()
    assert same(tmp_path / "1", tmp_path / "2")
    make_recipe()
