"""Parts of a batch: loss and gradients are those of the whole, of padded texts too; a run is the same in any parts."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from rounding import of_rows
from torch import Tensor
from training import distill, last

from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.memory import step_bytes
from distill.module import Distillation
from distill.parts import cut
from distill.recipe import Recipe, resolve
from distill.run import build_module, train
from shards.loader import Batch
from shards.order import Reading

SIZE = 8


def recipe_of(**values: Any) -> Recipe:
    plain = {"student": "encoder:depth=2", "init": "teacher", "batch_size": SIZE, "lr": 0.01, "max_steps": 6}
    return resolve(Recipe("test", **(plain | {"objective": "mse"} | values)), DistillConfig("."))


def open_padded(cache: Path, name: str = "no_norm-float32", **values: Any) -> tuple[Distillation, CacheData]:
    objective = {"objective": "kl"} if "mlm" in name else {}
    data = CacheData(open_training(str(cache), name, False), recipe_of(**(objective | values)), 1)
    return build_module(data, data.recipe), data


def gradients(module: Distillation, batch: Batch, most: int | None) -> tuple[Tensor, Tensor]:
    module.most_samples = most
    module.zero_grad()
    loss = module.loss(batch)
    loss.backward()
    held = [each.grad.flatten() for each in module.parameters() if each.grad is not None]
    return loss.detach(), torch.cat(held)


@pytest.mark.parametrize("name", ["no_norm-float32", "mlm_logits-topk", "5tokens"])
@pytest.mark.parametrize("most", [1, 3, 4])
def test_parts_of_padded_texts_are_the_whole_batch(padded: Path, name: str, most: int) -> None:
    module, data = open_padded(padded, name)
    batch = next(iter(data.training_batches()))
    assert len(set(batch.fields["length"].tolist())) > 2
    loss, whole = gradients(module, batch, None)
    in_parts, parts = gradients(module, batch, most)
    bound = of_rows(whole)
    assert float((parts - whole).abs().max()) <= bound
    assert float(in_parts) == pytest.approx(float(loss), abs=of_rows(loss))
    with torch.no_grad():
        assert float(module.loss(batch, validating=False)) == pytest.approx(float(loss), abs=of_rows(loss))
    # means of parts that weigh alike are not
    alike = [gradients(module, part, None) for part in cut(batch, most)]
    counts = [len(part.samples) / SIZE for part in cut(batch, most)]
    mean = sum(share * each for share, (_, each) in zip(counts, alike, strict=True))
    assert name == "5tokens" or float((mean - whole).abs().max()) > 10 * bound


@pytest.mark.parametrize("name", ["no_norm-float32", "5tokens"])
def test_targets_are_made_once_however_many_parts(padded: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding, or with a teacher in the loop its forward, is paid for once; tokens are counted without it."""
    module, data = open_padded(padded, name)
    batch, made, targets = next(iter(data.training_batches())), list[int](), module.targets

    def counted(part: Batch, *others: Any) -> list[Any]:
        made.append(len(part.samples))
        return targets(part, *others)

    monkeypatch.setattr(module, "targets", counted)
    gradients(module, batch, 3)
    assert made == [3, 3, 2]


class Recording(Distillation):
    """Keeps every loss that it trained on."""

    def loss(self, batch: Batch, validating: bool = False) -> Tensor:
        loss = super().loss(batch, validating)
        if not validating:
            self.__dict__.setdefault("seen", []).append(float(loss.detach()))
        return loss


def test_what_is_logged_is_the_loss_of_all_parts_of_a_step(padded: Path, tmp_path: Path) -> None:
    _, data = open_padded(padded, accumulate=2, max_steps=10)
    made = list[Recording]()

    def make(**parts: Any) -> Recording:
        made.append(Recording(**parts))
        return made[-1]

    train(DistillConfig(str(padded), devices="cpu"), data.recipe, data, tmp_path / "run", make)
    with (tmp_path / "run/logs/version_0/metrics.csv").open() as log:
        (logged,) = [float(row["train_loss"]) for row in csv.DictReader(log) if row["train_loss"]]
    last_two = made[0].__dict__["seen"][18:]
    assert len(last_two) == 2 and logged == pytest.approx(sum(last_two) / 2, rel=1e-6)
    assert logged != pytest.approx(last_two[-1], rel=1e-3)


def test_a_batch_of_several_components_is_cut_as_it_lies() -> None:
    readings = [
        Reading(np.arange(3), 0),
        Reading(np.arange(1), 1, component=1),
        Reading(np.arange(5, 9), 2, component=1),
    ]
    rows = torch.arange(8)
    batch = Batch(readings, {"pixels": rows}, rows, {"one": {"values": rows}}, {"one": []}, {"one": {"values": rows}})
    parts = list(cut(batch, 3))
    assert [part.fields["pixels"].tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert all(torch.equal(part.labels, part.targets["one"]["values"]) for part in parts)
    assert all(part.banks is batch.banks for part in parts)
    told = [
        [(*reading.samples.tolist(), reading.view, reading.component) for reading in part.readings] for part in parts
    ]
    assert told == [[(0, 1, 2, 0, 0)], [(0, 1, 1), (5, 6, 2, 1)], [(7, 8, 2, 1)]]


def test_parts_in_half_precision_differ_by_its_rounding(padded: Path) -> None:
    """The cast weights are made for each part: what held them is freed with the part before."""
    module, data = open_padded(padded)
    batch = next(iter(data.training_batches()))
    _, exact = gradients(module, batch, None)
    with torch.autocast("cpu", torch.bfloat16):
        _, parts = gradients(module, batch, 3)
    assert float((parts - exact).norm() / exact.norm()) < 32 * torch.finfo(torch.bfloat16).eps


def test_gradients_that_a_scaler_keeps_from_vanishing_are_scaled_once(padded: Path) -> None:
    """float16 on a GPU: the parts' own backward passes are scaled, and what is handed on is, as the caller asks."""
    module, data = open_padded(padded)
    batch = next(iter(data.training_batches()))
    _, whole = gradients(module, batch, None)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    module.trainer = lightning.Trainer(accelerator="cpu", plugins=[plugin], logger=False, enable_checkpointing=False)
    module.most_samples = 3
    module.zero_grad()
    scaler.scale(module.loss(batch) / 2).backward()  # as the trainer does of two accumulated batches
    scaled = torch.cat([each.grad.flatten() for each in module.parameters() if each.grad is not None])
    assert float((scaled / 2**11 - whole).abs().max()) <= of_rows(whole)


class Stop(Callback):
    """A signal comes after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == self.steps:
            raise KeyboardInterrupt


def caps(cache: Path) -> dict[int, str]:
    """A cap in which a batch fits in so many parts and in no fewer."""
    module, data = open_padded(cache, student="encoder:depth=1")
    return {parts: f"{int(step_bytes(module, data, SIZE, parts))}B" for parts in (2, 4)}


@pytest.mark.slow
def test_a_run_goes_on_in_other_parts_and_is_the_run_without_a_cap(
    padded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted within an epoch in two parts and resumed in four: neither run.json nor what is learnt tells."""

    def run(name: str, cap: str | None, stop: int | None = None) -> None:
        config = DistillConfig(str(padded), devices="cpu", max_memory=cap)
        _, data = open_padded(padded, checkpoint_every=1, student="encoder:depth=1")
        train(config, data.recipe, data, tmp_path / name, callbacks=[Stop(stop)] if stop else [])

    sizes = caps(padded)
    run("whole", None)
    with pytest.raises(KeyboardInterrupt):
        run("cut", sizes[2], stop=4)
    run("cut", sizes[4])
    told = capsys.readouterr().out
    assert "a batch of 8 in 2 parts: " in told and "a batch of 8 in 4 parts: " in told and "resumes at step" in told
    for name in ("run.json", "recipe.yaml"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, other = (last(tmp_path / name) for name in ("cut", "whole"))
    assert one["global_step"] == other["global_step"] == 6
    begun = open_padded(padded, student="encoder:depth=1")[0].state_dict()
    moved, apart = (
        sum(float((found["state_dict"][name] - rows).square().sum()) for name, rows in origin.items()) ** 0.5
        for found, origin in ((other, begun), (one, other["state_dict"]))
    )
    # by distance: AdamW moves weights whose gradients are rounding alone (an attention's key bias) as far as others
    assert apart < moved / 500


@pytest.mark.slow
def test_a_finished_run_is_finished_under_any_cap(padded: Path, tmp_path: Path) -> None:
    flags = ("--targets", "no_norm-float32", "--precision", "float32", "--batch_size", "8", "--max_steps", "2")
    flags += ("--student", "encoder:depth=2")
    distill(padded, tmp_path / "run", *flags).succeeds()
    for cap in ("1kB", "24GB"):
        again = distill(padded, tmp_path / "run", *flags, "--max_memory", cap).succeeds()
        assert again.out.splitlines()[-1].startswith("distill: finished before: ") and "a step" not in again.out


def test_validation_batches_are_those_without_a_cap(padded: Path) -> None:
    module, data = open_padded(padded, validation_fraction=0.4)
    module.eval()
    losses = []
    for most in (None, 3):
        module.most_samples = most
        with torch.no_grad():
            losses.append([module.loss(batch, validating=True) for batch in data.validation_batches()])
    assert len(losses[0]) == len(losses[1]) > 1
    for one, other in zip(*losses, strict=True):
        assert float(one) == pytest.approx(float(other), abs=of_rows(other))


def test_the_recipes_own_parts_stay(padded: Path) -> None:
    module, data = open_padded(padded)
    module.recipe = replace(module.recipe, grad_cache=2)
    batch = next(iter(data.training_batches()))
    _, whole = gradients(module, batch, None)
    _, parts = gradients(module, batch, 4)
    assert float((parts - whole).abs().max()) <= of_rows(whole)
