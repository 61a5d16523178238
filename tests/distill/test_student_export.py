"""What a run leaves behind: an exported student, a summary, logs; and the precisions and devices it runs with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import STUDENT, distill, last, open_data, weights, write_recipe

from distill.run import build_module
from distill.trainer import choose_devices
from extract.networks import exported_input, load_exported
from shards.command.devices import Devices
from shards.errors import BadInput

ONE = ("--targets", "one-logits-float32")

LOAD = """
import json, sys, torch
from pathlib import Path
from extract.networks import exported_input, load_exported
network, config = load_exported(Path(sys.argv[1]))
torch.manual_seed(0)
assert not {"lightning", "torchmetrics", "wandb"} & {name.partition(".")[0] for name in sys.modules}
assert not [name for name in sys.modules if name.startswith("distill")]
torch.set_num_threads(1)
print(json.dumps([network(torch.randn(5, 3, 16, 16))["logits"].tolist(), config]))
"""


@pytest.mark.slow
def test_the_student_loads_without_lightning_and_says_the_same(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", validation_fraction=0.0)
    distill(shards, tmp_path / "run", "--targets", "two", "--recipe", recipe).succeeds()
    command = [sys.executable, "-c", LOAD, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    logits, config = json.loads(done.stdout)
    data = open_data(shards, "two", validation_fraction=0.0)
    module = build_module(data, data.recipe)
    module.load_state_dict(last(tmp_path / "run")["state_dict"])  # nothing was held out: the last student is exported
    torch.manual_seed(0)
    module.eval()
    assert torch.equal(torch.tensor(logits), module.student(torch.randn(5, 3, 16, 16))["logits"])
    assert config["architecture"] == "convnet" and config["arguments"] == {"width": 4, "depth": 2}
    assert config["num_classes"] == 10 and config["class_names"] == [str(digit) for digit in range(10)]
    assert config["image_size"] == 16 and exported_input(config, "") == module.inputs
    assert config["mean"] == [0.5, 0.4, 0.3]  # the teacher's
    assert config["cache"] == data.training.identity()


def test_the_best_student_is_exported_bit_for_bit(shards: Path, tmp_path: Path) -> None:
    """Exporting runs nothing through the student: a forward in training mode would move its batch statistics."""
    recipe = write_recipe(tmp_path / "test.yaml", epochs=3, lr=0.1)
    distill(shards, tmp_path / "run", *ONE, "--recipe", recipe).succeeds()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    state = last(tmp_path / "run")["state_dict"]
    exported = weights(tmp_path / "run")
    assert state.keys() == {f"student.{name}" for name in exported}
    same = [torch.equal(state[f"student.{name}"], tensor) for name, tensor in exported.items()]
    assert all(same) == (summary["best_step"] == summary["steps"])
    best = tmp_path / "run/checkpoints/best.safetensors"
    from safetensors.torch import load_file

    assert all(torch.equal(tensor, exported[name]) for name, tensor in load_file(best).items())


def test_the_summary_says_what_it_cost(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", accumulate=2)
    outcome = distill(shards, tmp_path / "run", *ONE, "--recipe", recipe).succeeds()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    data = open_data(shards)
    assert summary["steps"] == 8 and summary["teacher_forwards"] == 0 and summary["student"] == STUDENT
    assert summary["num_parameters"] == sum(p.numel() for p in load_exported(tmp_path / "run")[0].parameters())
    folders = [data.training.viewset.folder, *(held.folder for held in data.training.targetsets)]
    manifests = {"viewset.json", "targetset.json"}
    of_views = [p for p in folders[0].rglob("*") if "targets" not in p.relative_to(folders[0]).parts]
    files = [p for p in (*of_views, *folders[1].rglob("*")) if p.is_file() and p.name not in manifests]
    assert summary["cache_bytes"] == sum(path.stat().st_size for path in files)
    assert (summary["cache"], summary["viewset"]) == (str(shards), folders[0].name)
    assert summary["targetsets"] == [folders[1].name]
    closing = outcome.out.strip().splitlines()[-1]
    for word in (
        "8 steps",
        "samples/s",
        "best validation loss",
        "0 teacher forwards",
        "of cache",
        str(tmp_path / "run"),
    ):
        assert word in closing


def test_a_run_that_ends_within_an_epoch_is_validated(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", max_steps=3, accumulate=2)
    distill(shards, tmp_path / "run", *ONE, "--recipe", recipe).succeeds()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["steps"] == summary["best_step"] == 3 and summary["best_val_loss"] > 0


@pytest.mark.slow
def test_bfloat16_trains_float32_weights(shards: Path, tmp_path: Path) -> None:
    found = {}
    for precision in ("float32", "bfloat16"):
        recipe = write_recipe(tmp_path / "test.yaml", precision=precision, lr=1e-3)
        distill(shards, tmp_path / precision, *ONE, "--recipe", recipe).succeeds()
        found[precision] = weights(tmp_path / precision)
    assert {tensor.dtype for tensor in found["bfloat16"].values()} == {torch.float32, torch.int64}
    moved = [not torch.equal(found["float32"][name], found["bfloat16"][name]) for name in found["float32"]]
    assert any(moved)
    for name, tensor in found["float32"].items():
        # 8 of Adam's steps apart at most, each no longer than the rate; statistics follow the weights
        assert torch.allclose(tensor.float(), found["bfloat16"][name].float(), rtol=0.1, atol=2 * 8 * 1e-3), name


def test_devices_that_cannot_be(shards: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        recipe = write_recipe(tmp_path / "test.yaml", precision="float16")
        refused = distill(shards, tmp_path / "run", *ONE, "--recipe", recipe)
        refused.refuses("--precision float16: needs a GPU", "bfloat16")
        assert not (tmp_path / "run").exists()
        with pytest.raises(BadInput, match=r"--devices cuda: expected auto, .* torch sees 0 GPUs"):
            choose_devices("cuda", "float32")
    for devices in ("0", "-1", "two", "1.5", "1000", "cuda:1000", "cuda:x"):
        with pytest.raises(BadInput, match=f"--devices {devices}: expected auto, "):
            choose_devices(devices, "float32")
    assert choose_devices("cpu", "bfloat16") == Devices("cpu")


@pytest.mark.slow
def test_a_compiled_student_is_the_same_student(shards: Path, tmp_path: Path) -> None:
    if shutil.which("gcc") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    fields = {"max_steps": 2, "eps": 1e-3}  # or Adam makes whole steps of rounding
    for name, compiles in (("plain", False), ("compiled", True)):
        recipe = write_recipe(tmp_path / f"{name}.yaml", compile=compiles, **fields)
        distill(shards, tmp_path / name, *ONE, "--recipe", recipe).succeeds()
    plain, compiled = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        assert torch.allclose(tensor.float(), compiled[name].float(), atol=5e-3), name


@pytest.mark.slow
def test_wandb_writes_an_offline_run_without_a_login(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))  # no login there
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    recipe = write_recipe(tmp_path / "test.yaml")
    distill(shards, tmp_path / "run", *ONE, "--recipe", recipe, "--wandb", "true").succeeds()
    (written,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    assert len(list(written.parent.glob("files/media/images/examples_*.png"))) == 2  # one a validation
    content = written.read_bytes()
    data = open_data(shards)
    identity = data.training.identity()
    for word in ("git_revision", "weight_decay", identity["viewset"], identity["targetsets"][0], "val_loss"):
        assert word.encode() in content, word
