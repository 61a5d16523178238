"""The names of a teacher's classes, from its weights to the target set, the contact sheet and the student's export."""

import json
from pathlib import Path

import caches
import numpy as np
import pytest
import torch

from extract.modalities.image import ImageInput
from extract.networks import build_network, export_network, load_exported
from extract.teachers.base import freeze
from shards.class_names import logit_names
from shards.contact_sheet import teacher_lines
from shards.errors import BadInput
from shards.reader import TargetSet, ViewSet

WORDS = ["nought", "ace", "deuce", "trey", "four", "five", "six", "seven", "eight", "nine"]
NETWORK = {"architecture": "convnet", "arguments": {"width": 4, "depth": 2}, "num_classes": 10}
INPUT = {"image_size": caches.IMAGE_SIZE, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


def write_teacher(folder: Path, class_names: list[str] | None, bias: float = 0.0) -> Path:
    """A teacher whose every answer is class 3 where `bias` is large."""
    torch.manual_seed(0)
    network = build_network("convnet", 10, width=4, depth=2)
    with torch.no_grad():
        network.get_parameter("head.bias")[3] += bias
    export_network(folder, network, {**NETWORK, **INPUT, "class_names": class_names})
    return folder


def sets_of(cache: Path, name: str) -> tuple[ViewSet, TargetSet]:
    return ViewSet(caches.viewset_of(cache)), TargetSet(caches.targetset_of(cache, name))


@pytest.mark.parametrize("codec", ["float32", "topk:2"])
def test_names_of_its_own_are_kept_with_the_target_set_and_shown(tmp_path: Path, codec: str) -> None:
    teacher = write_teacher(tmp_path / "words", WORDS, bias=50.0)
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *caches.SMALL)
    caches.extract(*flags, "--target", "logits,pooled", "--codec", f"{codec},float32")
    viewset, targetset = sets_of(tmp_path / "cache", "logits")
    assert targetset.manifest.class_names == WORDS
    assert viewset.class_names == [str(digit) for digit in range(10)]
    assert logit_names(viewset, targetset) == WORDS
    lines = teacher_lines(viewset, targetset, np.array([0, 7]), 1)
    assert [line[0] for line in lines.values()] == ["teacher: trey 100.0%"] * 2
    assert sets_of(tmp_path / "cache", "pooled")[1].manifest.class_names is None
    caches.command("shards", "verify", tmp_path / "cache", "--recompute", "2").succeeds()


def test_names_that_the_view_set_has_are_not_stored_twice(pristine: Path) -> None:
    viewset, targetset = sets_of(pristine, "logits")
    assert targetset.manifest.class_names is None
    assert logit_names(viewset, targetset) == [str(digit) for digit in range(10)]


def test_a_teacher_of_numbered_classes_is_shown_by_the_labels_names(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "numbered", None)
    caches.extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *caches.SMALL)
    viewset, targetset = sets_of(tmp_path / "cache", "logits")
    assert targetset.manifest.class_names is None
    assert logit_names(viewset, targetset) == viewset.class_names


def test_a_student_of_logits_takes_its_teachers_names(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "words", WORDS)
    caches.extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *caches.SMALL)
    flags = ("--student", "convnet:width=4", "--max_steps", "1", "--batch_size", "8", "--devices", "cpu")
    caches.command("distill", "--shards", tmp_path / "cache", "--run_dir", tmp_path / "run", *flags).succeeds()
    assert load_exported(tmp_path / "run")[1]["class_names"] == WORDS


def test_another_number_of_names_than_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"9 class_names, but num_classes is 10"):
        write_teacher(tmp_path / "nine", WORDS[:9])
    network, size = build_network("convnet", 10), ImageInput(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with pytest.raises(BadInput, match=r"^teacher t: 9 class names, but its logits have the shape \(10,\)"):
        freeze("t", "t", network, size, tuple(WORDS[:9]))


def test_a_target_set_with_another_number_of_names_is_damaged(tmp_path: Path, pristine: Path) -> None:
    cache = caches.copied(pristine, tmp_path / "cache")
    manifest = caches.targetset_of(cache) / "targetset.json"
    caches.reseal(manifest, lambda document: document.update(class_names=WORDS[:9]))
    refused = caches.command("shards", "view", manifest.parent, "--output", tmp_path / "sheet.png")
    refused.refuses("9 class_names cannot name a row of shape [10]")
    assert json.loads(manifest.read_bytes())["class_names"] == WORDS[:9]
