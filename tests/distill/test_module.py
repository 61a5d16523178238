"""The module: how losses are mixed and weighted, what the optimiser does, what validation reports."""

import csv
import itertools
import json
import math
from pathlib import Path

import lightning
import pytest
import rounding
import torch
from torch.nn import functional as F
from training import STUDENT, distill, last, make_recipe, open_data, write_recipe

from distill.checkpoints import Checkpoints
from distill.module import Distillation
from distill.optimiser import linear_factor, make_optimiser, parameter_groups, rate_factor
from distill.run import build_module
from distill.students import Student, StudentRequest, build_student
from distill.trainer import fit, make_trainer
from extract.modalities.base import feed
from extract.modalities.image import ImageInput
from extract.networks import architecture_names, build_network, load_exported
from shards.command.devices import Devices
from shards.command.specs import parse_spec
from shards.errors import BadInput, UnknownName
from shards.in_order import in_order
from shards.loader import Batch, BatchLoader


def first(shards: Path, targets: str, **values: object) -> tuple[Distillation, Batch]:
    data = open_data(shards, targets, **values)
    return build_module(data, data.recipe), next(iter(data.training_batches()))


def parts(
    module: Distillation, batch: Batch, temperature: float = 2.0
) -> tuple[list[torch.Tensor], torch.Tensor, float]:
    """The divergence from each target set and the cross-entropy, from torch's own functions, and their rounding."""
    student = feed(module.student, module.inputs, batch.fields)["logits"]
    log_q = (student / temperature).log_softmax(-1)
    teachers = [torch.as_tensor(stored["values"]) for stored in batch.targets.values()]
    divergences = [
        F.kl_div(log_q, (teacher / temperature).softmax(-1), reduction="batchmean") * temperature**2
        for teacher in teachers
    ]
    cross_entropy = F.cross_entropy(student, batch.labels) if batch.labels is not None else torch.zeros(())
    return divergences, cross_entropy, rounding.of_divergence(student.detach(), *teachers, temperature=temperature)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_labels_have_their_share(shards: Path, share: float) -> None:
    module, batch = first(shards, "one-logits-float32", label_weight=share)
    (divergence,), cross_entropy, error = parts(module, batch)
    assert divergence > 100 * error
    assert float(module.loss(batch)) == pytest.approx(
        float((1 - share) * divergence + share * cross_entropy), abs=error
    )
    assert (batch.labels is None) == (share == 0)


@pytest.mark.parametrize("weights", [(0.7, 0.3), (7, 3), (1, 1), (1, 0.001)])
def test_two_teachers_are_their_weighted_mean(shards: Path, weights: tuple[float, float]) -> None:
    targets = f"one-logits-float32={weights[0]},two={weights[1]}"
    module, batch = first(shards, targets, label_weight=0.2)
    (one, two), cross_entropy, error = parts(module, batch)
    mean = (weights[0] * one + weights[1] * two) / sum(weights)
    assert float(module.loss(batch)) == pytest.approx(float(0.8 * mean + 0.2 * cross_entropy), abs=error)


def test_two_teachers_gradients_are_their_weighted_mean(shards: Path) -> None:
    found = []
    for targets in ("one-logits-float32=0.7,two=0.3", "one-logits-float32", "two"):
        module, batch = first(shards, targets, validation_fraction=0.0)
        module.loss(batch).backward()
        found.append(torch.cat([p.grad.flatten() for p in module.student.parameters() if p.grad is not None]))
    # the second teacher alone brings its own normalisation; both of ours have the same
    rounding_error = 100 * rounding.EPSILON * float(found[0].abs().max())
    assert torch.allclose(found[0], 0.7 * found[1] + 0.3 * found[2], rtol=0, atol=rounding_error)


def test_labels_alone(shards: Path) -> None:
    data = open_data(shards, None, objective="supervised", label_weight=1.0)
    module, batch = build_module(data, data.recipe), next(iter(data.training_batches()))
    _, cross_entropy, _ = parts(module, batch)
    assert float(module.loss(batch)) == pytest.approx(float(cross_entropy), rel=1e-5)


def test_the_students_weights_come_from_the_seed_alone(shards: Path) -> None:
    states: list[torch.Tensor] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(states))
        data = open_data(shards, seed=seed)
        states.append(torch.cat([p.flatten() for p in build_module(data, data.recipe).student.parameters()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    "architecture", [name for name in architecture_names() if name not in ("resnet101", "resnet152")]
)
def test_no_decay_on_biases_and_norms(architecture: str) -> None:
    network = build_network(architecture, 10)
    decayed, plain = parameter_groups(network, 0.3)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    weights = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    expected = {id(p) for norm in norms for p in norm.parameters()} | {
        id(w.bias) for w in weights if w.bias is not None
    }
    assert {id(p) for p in plain["params"]} == expected
    assert {id(p) for p in decayed["params"]} == {id(w.weight) for w in weights}
    assert len(expected) + len(weights) == len(list(network.parameters()))


def test_frozen_parameters_and_tables_do_not_decay() -> None:
    network = torch.nn.Module()
    network.cls_token = torch.nn.Parameter(torch.zeros(1, 1, 8))
    network.position = torch.nn.Parameter(torch.zeros(1, 4, 8))
    network.frozen = torch.nn.Parameter(torch.zeros(8, 8), requires_grad=False)
    network.matrix = torch.nn.Parameter(torch.zeros(8, 8))
    decayed, plain = parameter_groups(network, 0.1)
    assert decayed["params"] == [network.matrix] and len(plain["params"]) == 2
    optimiser = make_optimiser(network, make_recipe(lr=0.5, betas=(0.8, 0.9), eps=1e-7))
    assert optimiser.defaults["betas"] == (0.8, 0.9) and optimiser.defaults["eps"] == 1e-7
    assert {group["lr"] for group in optimiser.param_groups} == {0.5}


def test_warm_up_and_cosine() -> None:
    rates = [rate_factor(step, 0.1, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0 and rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90))) and rates[99] > 0
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rate_factor(0, 0.0, 100) == 1.0 and rate_factor(100, 0.1, 100) == 0.0 == rate_factor(500, 0.1, 100)
    assert rate_factor(0, 1.0, 1) == 1.0


def test_warm_up_and_a_line() -> None:
    rates = [linear_factor(step, 0.1, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx([1 - step / 90 for step in range(90)])
    assert linear_factor(100, 0.1, 100) == 0.0 == linear_factor(500, 0.1, 100) and linear_factor(0, 1.0, 1) == 1.0


class Rates(lightning.Callback):
    """The learning rate of each optimiser step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: object, module: object, optimiser: torch.optim.Optimizer) -> None:
        self.seen.append(optimiser.param_groups[0]["lr"])


@pytest.mark.parametrize("values", [{"epochs": 2}, {"epochs": 2, "accumulate": 4}, {"max_steps": 6, "accumulate": 2}])
def test_one_rate_an_optimiser_step_whatever_the_accumulation(shards: Path, tmp_path: Path, values: dict) -> None:
    data = open_data(shards, warmup=0.25, **values)
    module, rates = build_module(data, data.recipe), Rates()
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1000)
    trainer = make_trainer(Devices("cpu"), data.recipe, tmp_path, [rates, checkpoints], [])
    fit(trainer, module, data, None)
    total = values.get("max_steps", 8)
    assert module.total_steps == total == trainer.global_step
    assert rates.seen == pytest.approx([0.01 * rate_factor(step, 0.25, total) for step in range(total)])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("targets", ["one-logits-float32", "two"])
def test_the_validation_loss_is_the_mean_over_samples(shards: Path, tmp_path: Path, targets: str) -> None:
    """The last batch is short: a mean of the batches' means would differ."""
    recipe = write_recipe(tmp_path / "test.yaml", validation_fraction=0.35, epochs=1)
    distill(shards, tmp_path / "run", "--targets", targets, "--recipe", recipe).succeeds()
    data = open_data(shards, targets, validation_fraction=0.35, epochs=1)
    held, (samples,) = data.validation, data.validation_samples
    assert len(samples) > 16 and len(samples) % 16
    module = build_module(data, data.recipe)
    module.student = load_exported(tmp_path / "run")[0]
    losses, errors = [], []
    with torch.no_grad():
        for batch in BatchLoader(held.components, in_order(samples, 1), 1):
            (divergence, *_), _, error = parts(module, batch)
            losses.append(float(divergence))
            errors.append(error)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["best_val_loss"] == pytest.approx(_mean(losses), abs=_mean(errors))
    of_batches = _mean([_mean(losses[start : start + 16]) for start in range(0, len(losses), 16)])
    assert abs(of_batches - _mean(losses)) > 10 * _mean(errors)  # so that the line above can tell them apart
    with (tmp_path / "run/logs/version_0/metrics.csv").open() as file:
        logged = [float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]
    assert logged == [summary["best_val_loss"]] and summary["best_step"] == last(tmp_path / "run")["global_step"]


def student(spec: str, init: str = "random") -> Student:
    return build_student(StudentRequest(spec, init, [], 7, ImageInput(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))))


def test_students_by_their_spec() -> None:
    assert parse_spec("student", STUDENT) == ("convnet", {"width": 4, "depth": 2})
    assert student("resnet8").network(torch.zeros(2, 3, 16, 16))["logits"].shape == (2, 7)
    with pytest.raises(UnknownName, match=r"unknown student 'resnet9'.*resnet8"):
        student("resnet9")
    with pytest.raises(BadInput, match=r"--student convnet:width: expected NAME:ARGUMENT=VALUE"):
        student("convnet:width")
    with pytest.raises(BadInput, match=r"width"):
        student("convnet:width=[1]")
    with pytest.raises(BadInput, match=r"convnet:width=\{"):
        student("convnet:width={")
    with pytest.raises(BadInput, match=r"--init weights.pt: convnet takes nothing over"):
        student(STUDENT, "weights.pt")
