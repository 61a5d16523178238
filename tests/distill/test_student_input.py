"""A student's own input: the recipe's, else its teacher's; said where teachers are fed otherwise."""

from pathlib import Path
from typing import Any

import caches
import pytest
import torch
from torch.nn import functional as F
from training import distill, make_recipe, open_data, write_recipe

from distill.recipe import as_values
from distill.run import build_module
from evaluate.student import load_student
from extract.networks import export_network, load_exported
from extract.teachers import load_teacher

OTHER = {"mean": [0.1, 0.2, 0.3], "std": [0.6, 0.7, 0.8]}
OWN = {"mean": [0.25, 0.5, 0.75], "std": [1, 0.5, 0.25]}


@pytest.fixture(scope="module")
def two_inputs(shards: Path, teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache with the logits of a third teacher, which is fed with another mean and deviation."""
    folder = tmp_path_factory.mktemp("inputs")
    network, document = load_exported(teachers["two"])
    described = {name: document[name] for name in ("architecture", "arguments", "num_classes", "image_size")}
    export_network(folder / "three", network, {**described, **OTHER, "class_names": document["class_names"]})
    cache = caches.copied(shards, folder / "cache")
    flags = ("--out", cache, "--devices", "cpu", "--data", "digits", "--codec", "float32")
    caches.extract("--teacher", f"run:{folder / 'three'}", *flags)
    return cache


@pytest.mark.parametrize(
    ("targets", "first", "mean"), [("one-logits-float32,three", "one", [0.5, 0.4, 0.3]), ("three,two", "three", OTHER)]
)
def test_of_teachers_fed_otherwise_the_first_is_taken_and_said(
    two_inputs: Path, tmp_path: Path, targets: str, first: str, mean: Any
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", max_steps=1)
    found = distill(two_inputs, tmp_path / "run", "--targets", targets, "--recipe", recipe).succeeds()
    (line,) = [line for line in found.out.splitlines() if "fed otherwise" in line]
    assert "the student takes the mean " in line and f" of run-{first}, not those of run-" in line
    assert "a recipe's `input` says others" in line
    mean = mean["mean"] if isinstance(mean, dict) else mean
    assert load_exported(tmp_path / "run")[1]["mean"] == mean


def test_teachers_fed_alike_need_no_word(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", max_steps=1)
    found = distill(shards, tmp_path / "run", "--targets", "one-logits-float32,two", "--recipe", recipe).succeeds()
    assert "otherwise" not in found.out + found.err


def test_the_recipes_input_feeds_the_student_wherever_it_goes(two_inputs: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", max_steps=1, input=OWN)
    found = distill(two_inputs, tmp_path / "run", "--targets", "three,two", "--recipe", recipe).succeeds()
    assert "fed otherwise" not in found.out
    document = load_exported(tmp_path / "run")[1]
    assert (document["mean"], document["std"]) == ([0.25, 0.5, 0.75], [1.0, 0.5, 0.25])
    inputs = load_teacher(f"run:{tmp_path / 'run'}").inputs
    assert (inputs.mean, inputs.std) == ((0.25, 0.5, 0.75), (1.0, 0.5, 0.25))
    images = torch.full((1, 16, 16, 3), 255, dtype=torch.uint8)
    student = load_student(tmp_path / "run", "cpu", "float32")
    with torch.no_grad():  # white pixels: (1 - mean) / std is 0.75, 1 and 1
        white = torch.tensor([0.75, 1.0, 1.0])[None, :, None, None].expand(1, 3, 16, 16)
        torch.testing.assert_close(student({"pixels": images})["logits"], student.network(white)["logits"])


def test_the_loss_is_of_the_students_own_input(shards: Path) -> None:
    data = open_data(shards, input=OWN)
    module, batch = build_module(data, data.recipe), next(iter(data.training_batches()))
    mean, std = (torch.tensor(OWN[name], dtype=torch.float64)[:, None, None] for name in ("mean", "std"))
    images = (batch.fields["pixels"].permute(0, 3, 1, 2).double() / 255 - mean) / std
    logits = module.student(images.float())["logits"]
    teacher = torch.as_tensor(next(iter(batch.targets.values()))["values"])
    expected = F.kl_div((logits / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="batchmean") * 4
    assert float(module.loss(batch)) == pytest.approx(float(expected), rel=1e-4)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({**OWN, "size": 3}, "input: unknown size; it has image_size, mean, std"),
    "zero std": ({"std": [1, 1, 0]}, "input: std is missing or cannot be [1, 1, 0]"),
    "two numbers": ({"mean": [0, 0]}, "input: mean is missing or cannot be [0, 0]"),
    "no numbers": ({"mean": "abc"}, "input: mean is missing or cannot be abc"),
    "infinite": ({"mean": [float("inf"), 0, 0]}, "input: mean is missing or cannot be [inf, 0, 0]"),
    "another size": ({**OWN, "image_size": 32}, "its views have pixels of (16, 16, 3), the network takes (32, 32, 3)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_input_is_refused_before_anything_is_written(shards: Path, tmp_path: Path, kind: str) -> None:
    given, message = BAD[kind]
    recipe = write_recipe(tmp_path / "recipe.yaml", input=given)
    distill(shards, tmp_path / "run", "--targets", "one-logits-float32", "--recipe", recipe).refuses(message)
    assert not (tmp_path / "run").exists()


def test_what_the_recipe_leaves_out_is_the_first_teachers(shards: Path) -> None:
    data = open_data(shards, input={"std": OWN["std"]})
    assert build_module(data, data.recipe).inputs.describe() == {
        **{"image_size": 16, "mean": (0.5, 0.4, 0.3), "std": (1.0, 0.5, 0.25)}
    }


def test_a_recipe_without_one_is_saved_as_before() -> None:
    assert "input" not in as_values(make_recipe())
    assert as_values(make_recipe(input=OWN))["input"] == OWN
