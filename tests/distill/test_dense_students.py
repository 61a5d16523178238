"""Students of features: a data2vec2 network that starts from its teacher's first blocks, and what it learns from."""

import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import caches
import pytest
import torch
from test_ranks import two_ranks
from test_resume import Recorder
from training import distill, same, weights, write_recipe

from benchmarks.live import LiveDistillation
from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.module import Distillation
from distill.objectives import make_objective
from distill.recipe import Recipe, resolve
from distill.run import build_module, train
from distill.trainer import Elapsed, fit, make_trainer
from extract.networks import load_exported
from extract.networks.data2vec2 import NamedOutputs
from extract.teachers import load_teacher
from shards.codecs.features import Features
from shards.command.devices import Devices
from tests.extract.test_data2vec2_writer import write_checkpoint

RECIPE: dict[str, Any] = {
    "student": "data2vec2:depth=2",
    "init": "teacher",
    "objective": "mse",
    "lr": 2e-3,
    "weight_decay": 0.01,
    "batch_size": 16,
    "epochs": 3,
}


def data_of(shards: Path, targets: str, **values: Any) -> CacheData:
    recipe = resolve(Recipe(**{"name": "dense", **RECIPE, **values}), DistillConfig(shards=str(shards)))
    return CacheData(open_training(str(shards), targets, False), recipe, 1)


def student_of(shards: Path, targets: str = "layer_mean-float32", **values: Any) -> NamedOutputs:
    data = data_of(shards, targets, **values)
    student = build_module(data, data.recipe).student
    assert isinstance(student, NamedOutputs)
    return student


def whole_int8(dense: Path) -> str:
    """The name of the int8 layer means that kept every token."""
    names = [path.name for path in (caches.viewset_of(dense) / "targets").glob("*layer_mean-int8*")]
    return next(name for name in names if "tokens" not in name)


def test_the_cache_alone_says_how(dense: Path, tmp_path: Path) -> None:
    flags = ("--targets", whole_int8(dense), "--precision", "float32", "--student", "data2vec2:depth=2")
    outcome = distill(dense, tmp_path / "run", *flags, "--max_steps", "2", "--batch_size", "16").succeeds()
    assert "distil-data2vec2: data2vec2:depth=2 from data2vec2-base-layer_mean-int8" in outcome.out
    network, document = load_exported(tmp_path / "run")
    assert isinstance(network, NamedOutputs) and network.settings.depth == 2
    assert document["num_classes"] is None and document["architecture"] == "data2vec2"
    images = torch.rand(2, 3, 12, 12)
    assert network(images)["layer_mean"].shape == (2, 10, 16) and network(images)["pooled"].shape == (2, 16)
    a_row = 12 * 12 * 3 + 10 * 16 + 10 * 2  # pixels, int8 numbers, a float16 scale a token
    assert json.loads((tmp_path / "run/summary.json").read_text())["bytes_a_step"] == 16 * a_row
    assert "to the device a step" in outcome.out


def test_it_starts_as_the_teachers_first_blocks(dense: Path, checkpoint: Path) -> None:
    teacher = load_teacher("data2vec2", str(checkpoint)).network
    assert isinstance(teacher, NamedOutputs)
    expected = teacher.network.first_blocks(2).state_dict()
    found = student_of(dense).network.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    random = student_of(dense, init="random").network.state_dict()
    name = "blocks.0.attn.qkv.weight"
    assert not torch.equal(random[name], expected[name]) and 0.01 < float(random[name].std()) < 0.03


def test_what_no_target_depends_on_is_frozen(dense: Path) -> None:
    frozen = {name for name, p in student_of(dense).named_parameters() if not p.requires_grad}
    assert frozen == {"network.blocks.1.norm2.weight", "network.blocks.1.norm2.bias"}
    assert not [name for name, p in student_of(dense, "cls-float32").named_parameters() if not p.requires_grad]
    frozen = {name for name, p in student_of(dense, "layer_2-float32").named_parameters() if not p.requires_grad}
    assert frozen and all(name.startswith(("network.blocks.1.", "network.blocks.0.norm2")) for name in frozen)


@pytest.mark.parametrize(
    ("targets", "values"),
    [
        pytest.param("layer_mean-float32", {}, marks=pytest.mark.slow),
        ("INT8", {"objective": "smooth_l1:beta=0.5"}),
        ("layer_mean-int8-4tokens", {}),
        pytest.param(
            "layer_mean-float32",
            {"student": "data2vec2:depth=1,width=8,heads=2", "init": "random"},
            marks=pytest.mark.slow,
        ),
        pytest.param("layer_2-float32,layer_4-float32", {"objective": "cosine"}, marks=pytest.mark.slow),
        ("cls-float32=2,layer_mean-float32=1", {"init": "random"}),
        pytest.param("pooled-float32", {}, marks=pytest.mark.slow),
    ],
)
def test_the_loss_falls(targets: str, values: dict[str, Any], dense: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "dense.yaml", **{**RECIPE, "epochs": 10, "lr": 1e-2, **values})
    distill(
        dense, tmp_path / "run", "--recipe", recipe, "--targets", targets.replace("INT8", whole_int8(dense))
    ).succeeds()
    rows = (tmp_path / "run/logs/version_0/metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_loss")
    losses = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert losses[-1] < 0.85 * losses[0] and all(math.isfinite(loss) for loss in losses)
    network, document = load_exported(tmp_path / "run")
    assert document["arguments"]["teacher_depth"] == 4 and isinstance(network, NamedOutputs)


def test_a_narrow_student_meets_the_teacher_through_a_projector(dense: Path) -> None:
    student = student_of(dense, student="data2vec2:depth=2,width=8,heads=2", init="random")
    rows = student(torch.rand(3, 3, 12, 12))["layer_mean"]
    assert rows.shape == (3, 10, 16) and student.projectors["layer_mean"].weight.shape == (16, 8)
    # the layer mean's own normalisation comes last, so that it is of the teacher's kind
    assert torch.allclose(rows.mean(-1), torch.zeros(3, 10), atol=1e-5)
    assert torch.allclose(rows.var(-1, correction=0), torch.ones(3, 10), atol=1e-2)


@pytest.mark.parametrize("targets", ["layer_mean-float32", "layer_2-float32,layer_4-float32"])
def test_stored_and_live_teachers_give_the_same_student(
    targets: str, dense: Path, checkpoint: Path, tmp_path: Path
) -> None:
    live_teachers = [load_teacher("data2vec2", str(checkpoint)) for _ in targets.split(",")]
    ends = []
    for name, make in (("stored", Distillation), ("live", partial(LiveDistillation, teachers=live_teachers))):
        data = data_of(dense, targets, validation_fraction=0.0)
        config = DistillConfig(shards=str(dense), devices="cpu")
        train(config, data.recipe, data, tmp_path / name, make)
        ends.append(weights(tmp_path / name))
    # the extracted batches are those of the trainer only in size: a sum may be rounded otherwise in other company
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=2e-4) for name in ends[0])


def test_the_loss_falls_on_the_kept_positions_only(dense: Path) -> None:
    data = data_of(dense, "layer_mean-int8-4tokens")
    module, batch = build_module(data, data.recipe), next(iter(data.training_batches()))
    (target,) = module.targets(batch, module.training_sets, module.codecs)
    assert isinstance(target, Features) and target.rows.shape == (16, 4, 16)
    assert bool((target.positions[:, 0] == 0).all())
    tokens = module.student(torch.rand(16, 3, 12, 12))["layer_mean"]
    naive = torch.stack(
        [
            (tokens[i, p] - row[k]).square().mean()
            for i, (ps, row) in enumerate(zip(target.positions, target.rows, strict=True))
            for k, p in enumerate(ps)
        ]
    )
    assert float(make_objective("mse")(tokens, target)) == pytest.approx(float(naive.mean()), rel=1e-5)


@pytest.mark.slow
def test_a_run_resumes_without_the_teachers_file(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "weights.pt", depth=4, average_top_k_layers=4)
    flags = ("--data", "digits", "--limit", "48", "--target", "layer_mean", "--codec", "float32", "--devices", "cpu")
    caches.extract("--teacher", "data2vec2", "--weights", file, "--out", tmp_path / "cache", *flags)
    recipe = write_recipe(tmp_path / "dense.yaml", **RECIPE)
    distill(tmp_path / "cache", tmp_path / "whole", "--recipe", recipe).succeeds()
    data = data_of(tmp_path / "cache", "layer_mean", checkpoint_every=1)
    recorder = Recorder(tmp_path / "recorded/checkpoints", 1)
    recorder.states = []
    fit(
        make_trainer(Devices("cpu"), data.recipe, tmp_path / "recorded", [Elapsed(), recorder], []),
        build_module(data, data.recipe),
        data,
        None,
    )
    resumed = tmp_path / "resumed"
    for name in ("run.json", "recipe.yaml", "config.yaml"):
        resumed.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "whole" / name, resumed)
    shutil.copytree(recorder.states[len(recorder.states) // 2], resumed / "checkpoints")
    file.unlink()
    assert "resumes at step" in distill(tmp_path / "cache", resumed, "--recipe", recipe).succeeds().out
    assert same(tmp_path / "whole", resumed)
    distill(tmp_path / "cache", tmp_path / "another", "--recipe", recipe).refuses("weights.pt", "--init")


@pytest.mark.slow
def test_two_ranks_train_the_student_that_one_rank_accumulates(dense: Path, tmp_path: Path) -> None:
    """No rank waits for the gradient of a parameter that no target depends on, nor for a norm that is recomputed."""
    recipe, layers = write_recipe(tmp_path / "dense.yaml", **RECIPE, eps=1e-3), ("--targets", "layer_2-float32")
    done = two_ranks(dense, tmp_path / "two", recipe, targets=layers)
    assert done.returncode == 0, done.stderr
    distill(dense, tmp_path / "one", *layers, "--recipe", recipe, "--accumulate", "2").succeeds()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], rtol=1e-4, atol=1e-5) for name in one)


def test_a_student_teaches_the_next(dense: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "dense.yaml", **RECIPE)
    distill(dense, tmp_path / "first", "--recipe", recipe, "--targets", "layer_mean-float32").succeeds()
    cache = tmp_path / "cache"
    caches.extract("--teacher", f"run:{tmp_path / 'first'}", "--out", cache, "--data", "digits", "--limit", "32")
    recipe = write_recipe(tmp_path / "next.yaml", **{**RECIPE, "student": "data2vec2:depth=1"})
    distill(cache, tmp_path / "second", "--recipe", recipe).succeeds()
    assert load_exported(tmp_path / "second")[1]["arguments"]["teacher_depth"] == 2


def test_a_narrow_student_that_teaches_keeps_each_blocks_projector(dense: Path) -> None:
    narrow = {"student": "data2vec2:depth=2,width=8,heads=2", "init": "random"}
    student = student_of(dense, "layer_2-float32,layer_4-float32", **narrow)
    images = torch.rand(2, 3, 12, 12)
    own = student.by_own_blocks().only(["layer_1", "layer_2"])(images)
    said = student(images)
    assert torch.equal(own["layer_1"], said["layer_2"]) and torch.equal(own["layer_2"], said["layer_4"])
