"""A student trained from the cache is, bit for bit, the student trained with the live teacher."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caches import extract
from safetensors.torch import load_file
from texts import write_corpus, write_encoder

from benchmarks.live import LiveDistillation
from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.module import Distillation
from distill.recipe import Recipe, resolve
from distill.run import train
from extract.pipeline import forward
from extract.teachers import load_teacher
from shards.errors import BadInput

STUDENT = "convnet:width=5,depth=3"
PLAIN: dict[str, Any] = {"student": STUDENT, "objective": "kl:temperature=2", "lr": 0.02, "batch_size": 16}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one teacher": ("one", {}),
    "two teachers and labels": ("one=0.7,two=0.3", {"label_weight": 0.25}),
    "accumulation": ("two", {"accumulate": 2}),
    "dropout": ("one", {"student": "mobilenet_v3_small", "max_steps": 3}),
}


def run(shards: Path, run_dir: Path, targets: str, teachers: list[Any], **values: Any) -> dict[str, Any]:
    """The summary of one training, stored or (with `teachers`) live."""
    config = DistillConfig(shards=str(shards), run_dir=str(run_dir), devices="cpu")
    recipe = resolve(Recipe(**{"name": "exact", "epochs": 4, **PLAIN, **values}), config)
    data = CacheData(open_training(str(shards), targets, False), recipe, 1)
    make = partial(LiveDistillation, teachers=teachers) if teachers else Distillation
    return train(config, recipe, data, run_dir, make)


@pytest.mark.parametrize("size", [8, 16])
def test_premise_the_teacher_says_the_same_in_any_company(size: int, shards: Path, teachers: dict[str, Path]) -> None:
    """The next test needs that a row of the teacher's output does not depend on the other rows of its batch.

    True of this teacher in batches of 8 and 16 on a CPU; not in general (matrix products of other sizes may be summed
    in another order), which is why extract's batches never cross a shard.
    """
    holding = open_training(str(shards), "one", False)
    teacher = load_teacher(f"run:{teachers['one']}")
    device = torch.device("cpu")
    for view in range(3):
        samples = np.random.default_rng(view).permutation(70)[: 70 // size * size].reshape(-1, size)
        for batch in np.sort(samples):
            pixels = np.stack([_pixels(holding, view, int(sample)) for sample in batch])
            said = forward(teacher, {"pixels": torch.from_numpy(pixels)}, device, "float32")["logits"]
            assert np.array_equal(said.numpy(), holding.targetsets[0].read(view, batch)["values"])


def _pixels(holding: Any, view: int, sample: int) -> np.ndarray:
    from shards.views import image as images

    out = np.empty((16, 16, 3), np.uint8)
    images.decode(holding.viewset.storage.content(view, sample, "jpg"), out)
    return out


@pytest.mark.parametrize("case", CASES)
def test_stored_and_live_teachers_give_the_same_student(
    case: str, shards: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    targets, values = CASES[case]
    named = [load_teacher(f"run:{folder}") for name, folder in teachers.items() if name in targets]
    stored = run(shards, tmp_path / "stored", targets, [], **values)
    live = run(shards, tmp_path / "live", targets, named, **values)
    for name in ("student.safetensors", "checkpoints/best.safetensors"):
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "live" / name).read_bytes()
    ends = [torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("stored", "live")]
    assert ends[0]["state_dict"].keys() == ends[1]["state_dict"].keys()  # the live teacher is no part of it
    assert all(torch.equal(tensor, ends[1]["state_dict"][name]) for name, tensor in ends[0]["state_dict"].items())

    assert live["best_val_loss"] == stored["best_val_loss"] and live["steps"] == stored["steps"]
    epochs = -(-live["steps"] // 4)
    seen = live["steps"] * 16 + epochs * 25
    assert stored["teacher_forwards"] == 0 and live["teacher_forwards"] == seen * len(named)


@pytest.mark.parametrize("pack", ["stream", pytest.param("none", marks=pytest.mark.slow)])
def test_of_texts_too(pack: str, tmp_path: Path) -> None:
    """Of blocks and of padded texts: what the teacher says of padding counts nowhere."""
    encoder, corpus = write_encoder(tmp_path / "encoder"), write_corpus(tmp_path / "lines", 80)
    flags = ("--teacher", f"hf:{encoder}", "--data", f"text:{corpus}", "--view", f"blocks:size=12,pack={pack}")
    small = (
        "--target",
        "layer_mean_no_norm,mlm_logits",
        "--codec",
        "float32",
        "--batch_size",
        "16",
        "--devices",
        "cpu",
    )
    extract(*flags, *small, "--out", tmp_path / "cache")
    teacher = load_teacher(f"hf:{encoder}", image_size=12)
    for target, objective in (("layer_mean_no_norm", "mse"), ("mlm_logits", "kl")):
        values = {"student": "encoder:depth=2", "init": "teacher", "objective": objective, "epochs": 2}
        ends = []
        for name, teachers in (("stored", []), ("live", [teacher])):
            run(tmp_path / "cache", tmp_path / target / name, target, teachers, **values)
            ends.append((tmp_path / target / name / "student.safetensors").read_bytes())
        assert ends[0] == ends[1], target


def test_the_comparison_can_fail(shards: Path, teachers: dict[str, Path], tmp_path: Path) -> None:
    """A thousandth more in one logit of one sample, and the students differ."""
    teacher = load_teacher(f"run:{teachers['one']}")
    run(shards, tmp_path / "stored", "one", [])

    class Nudged(torch.nn.Module):
        network = teacher.network

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            outputs = self.network(images)
            outputs["logits"][0, 0] += 1e-3
            return outputs

    run(shards, tmp_path / "nudged", "one", [replace(teacher, network=Nudged())])
    ends = [load_file(tmp_path / name / "student.safetensors") for name in ("stored", "nudged")]
    assert not all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_a_live_teacher_that_is_not_the_stored_one_is_refused(
    shards: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="made by other weights than those of run-two"):
        run(shards, tmp_path / "run", "one", [load_teacher(f"run:{teachers['two']}")])
    assert not (tmp_path / "run" / "run.json").exists()


def test_the_summary_holds_what_evaluate_reads(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path / "run", "one", [], epochs=1)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    expected = {"recipe", "student", "num_parameters", "seconds", "steps", "teacher_forwards", "cache_bytes"}
    expected |= {
        "best_val_loss",
        "best_step",
        "cache",
        "viewset",
        "targetsets",
        "extracted",
        "git_revision",
        "bytes_a_step",
    }
    assert set(summary) == expected
    assert summary["bytes_a_step"] == 16 * (16 * 16 * 3 + 10 * 4)  # pixels and float32 logits
    assert [one["targetset"] for one in summary["extracted"]] == summary["targetsets"]
