"""finetune: what it learns, what it leaves alone, and that an interruption changes nothing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from digits_bench import Bench
from finetuning import settings

from distill.optimiser import rate_factor
from evaluate.__main__ import main
from evaluate.augmentation import Augmentation
from evaluate.preset import FOLDER
from evaluate.student import load_student
from evaluate.tasks.finetune import Classifier
from evaluate.training import CHECKPOINT, Method, Training
from evaluate.views import LabelledBatch, TrainingViews
from extract.networks import load_exported
from extract.sources import open_source
from shards.errors import BadInput, Damaged

DIGITS = open_source("digits", "train", limit=72)


@dataclass(frozen=True)
class CutShort(TrainingViews):
    """Views of a process that is killed in mid-epoch."""

    at_epoch: int = 1

    def epoch(self, epoch: int) -> Iterator[LabelledBatch]:
        for index, batch in enumerate(super().epoch(epoch)):
            if epoch == self.at_epoch and index == 1:
                raise KeyboardInterrupt
            yield batch


def training(bench: Bench, kind: type[TrainingViews] = TrainingViews, precision: str = "float32") -> Training:
    torch.manual_seed(0)
    student = load_student(bench.student, "cpu", precision)
    chosen = settings(epochs=3, batch_size=24)
    augmentation = Augmentation(16, chosen, 10, seed=0)
    loss = partial(F.cross_entropy, label_smoothing=chosen.label_smoothing)
    views = kind(DIGITS, augmentation.make, chosen.batch_size, 0, 2)
    method = Method(loss, rate_factor, augmentation.batch)
    student = replace(student, network=Classifier(student.network, 16, 10))
    return Training(student, views, chosen, method)


def finetune(run: Path, *flags: str) -> dict:
    main(["--run", str(run), "--task", "finetune", "--epochs", "1", "--limit", "300", *flags])
    return json.loads((run / "evaluation.json").read_text())["finetune"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_resumed_finetuning_ends_with_the_weights_of_an_uninterrupted_one(
    bench: Bench, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = training(bench, precision=precision)
    loss = whole.run(bench.scratch / "whole")
    with pytest.raises(KeyboardInterrupt):
        training(bench, CutShort, precision).run(bench.scratch / "cut")
    resumed = training(bench, precision=precision)
    torch.rand(5)  # whatever was drawn before
    assert resumed.run(bench.scratch / "cut") == loss
    assert "fine-tuning resumes after epoch 1 of 3" in capsys.readouterr().out
    for name, value in whole.classifier.state_dict().items():
        assert torch.equal(resumed.classifier.state_dict()[name], value), name
    before = load_exported(bench.student)[0].state_dict()
    assert any(not torch.equal(whole.classifier.backbone.state_dict()[name], before[name]) for name in before)
    held = torch.load(bench.scratch / "cut" / CHECKPOINT, weights_only=True)
    assert set(held) == {"epochs", "loss", "classifier"}  # a finished one keeps no optimiser


def test_a_finished_one_is_measured_again_without_training(bench: Bench) -> None:
    run = bench.run()
    held = finetune(run)
    (checkpoint,) = run.glob(f"finetune-digits-*/{CHECKPOINT}")
    assert held["folder"] == checkpoint.parent.name
    written = checkpoint.stat().st_mtime_ns
    again = finetune(run)
    assert checkpoint.stat().st_mtime_ns == written and {**again, "seconds": 0} == {**held, "seconds": 0}
    assert finetune(run, "--lr", "0.002")["folder"] != held["folder"]  # other settings: another training
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(Damaged, match="is no whole checkpoint; remove it to train from the beginning"):
        finetune(run)


@pytest.mark.slow
def test_it_learns_and_leaves_the_student_alone(bench: Bench) -> None:
    values = yaml.safe_load((FOLDER / "finetune-cifar.yaml").read_text())
    mild = {"lr": 0.01, "mixup": 0.0, "cutmix": 0.0, "randaugment_ops": 0, "flip": 0.0, "crop_scale": [0.8, 1.0]}
    (bench.scratch / "mild.yaml").write_text(yaml.safe_dump(values | mild))
    run = bench.run()
    flags = ["--run", str(run), "--batch_size", "32", "--limit", "500"]
    preset = ["--preset", str(bench.scratch / "mild.yaml"), "--epochs", "4"]
    main([*flags, *preset, "--task", "accuracy,finetune,knn"])
    together = json.loads((run / "evaluation.json").read_text())
    assert together["finetune"]["top1"] > together["accuracy"]["top1"] + 0.2
    assert together["finetune"]["top5"] > together["finetune"]["top1"]
    assert together["finetune"]["preset"] == "mild" and together["finetune"]["batch_size"] == 32
    main([*flags, "--task", "knn"])
    alone = json.loads((run / "evaluation.json").read_text())
    assert {**alone["knn"], "seconds": 0} == {**together["knn"], "seconds": 0}


def test_what_it_learned_from_and_was_measured_on_is_told(bench: Bench) -> None:
    run = bench.run()
    record = finetune(run, "--shards", str(next(bench.cache.glob("digits-validation-*"))))
    # stored views to measure on, and the source that they were made of to learn from
    assert record["data"].startswith("digits-validation-") and record["folder"].startswith("finetune-digits-")
    record = finetune(run, "--seed", "3", "--data", "digits")
    assert record["data"] == "digits"
    assert (record["seed"], record["train_split"], record["split"]) == (3, "train", "validation")
    assert record["num_samples"] == 300 and record["preset"] == "finetune-imagenet" and record["train_loss"] > 0


def test_what_cannot_be_finetuned(bench: Bench) -> None:
    run = bench.run()
    with pytest.raises(BadInput, match=r"--batch_size 256: train has 50 samples; give at most that many"):
        finetune(run, "--limit", "50")
    with pytest.raises(BadInput, match=r"the loss of epoch 1 is nan: give a lower --lr"):
        finetune(run, "--lr", "1e30", "--batch_size", "32")
    assert not list(run.glob(f"finetune-*/{CHECKPOINT}"))


def test_what_a_killed_write_left_is_removed(bench: Bench) -> None:
    folder = bench.scratch / "folder"
    folder.mkdir()
    (folder / ".partial-77-checkpoint.pt").write_bytes(b"half")
    training(bench).run(folder)
    assert [path.name for path in folder.iterdir()] == [CHECKPOINT]
