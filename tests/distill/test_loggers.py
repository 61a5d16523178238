"""`distill --logger`: each logger's own files, read back, hold the losses and a picture of examples."""

import csv
import io
import json
import os
import sqlite3
import sys
from pathlib import Path

import caches
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from training import VALIDATION, distill, open_data, write_recipe

from distill.loggers import logger_names
from distill.loggers.base import LoggedRun, own_name
from distill.loggers.examples import NUM_EXAMPLES, Examples, student_lines
from distill.run import build_module
from shards.contact_sheet import CELL
from shards.errors import BadInput

ONE = ("--targets", "one-logits-float32")


def logged_losses(run: Path) -> dict[int, float]:
    """The validation losses in metrics.csv, by the step that Lightning logged them at."""
    (path,) = run.glob("logs/version_*/metrics.csv")
    rows = [row for row in csv.DictReader(io.StringIO(path.read_text())) if row["val_loss"]]
    return {int(row["step"]): float(row["val_loss"]) for row in rows}


def test_without_the_flag_there_is_csv_alone(shards: Path, tmp_path: Path) -> None:
    distill(shards, tmp_path / "run", *ONE, "--recipe", write_recipe(tmp_path / "test.yaml")).succeeds()
    assert len(logged_losses(tmp_path / "run")) == 2
    assert not {"tensorboard", "wandb"} & {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.slow
def test_tensorboard_has_losses_pictures_and_facts_and_training_stays_the_same(shards: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'teacher-shards[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = write_recipe(tmp_path / "test.yaml")
    for name, flags in (("plain", ()), ("run", ("--logger", "tensorboard"))):
        distill(shards, tmp_path / name, *ONE, "--recipe", recipe, *flags).succeeds()
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    losses = logged_losses(tmp_path / "run")
    found = {event.step: event.value for event in events.Scalars("val_loss")}
    assert found.keys() == losses.keys() and found == pytest.approx(losses, rel=1e-6)
    pictures = events.Images("examples")
    assert len(pictures) == 2  # one a validation
    sheet = Image.open(io.BytesIO(pictures[-1].encoded_image_string))
    assert min(sheet.size) > CELL and np.ptp(np.asarray(sheet)) > 0
    assert pictures[0].encoded_image_string != pictures[1].encoded_image_string  # the student says something else
    (facts,) = events.Tensors("run/text_summary")
    assert open_data(shards).training.identity()["viewset"] in facts.tensor_proto.string_val[0].decode()
    plain, run = ((tmp_path / name / "student.safetensors").read_bytes() for name in ("plain", "run"))
    assert plain == run and losses == logged_losses(tmp_path / "plain")


def test_the_picture_says_what_teacher_and_student_say(shards: Path) -> None:
    data = open_data(shards)
    module = build_module(data, data.recipe).eval()
    batch = next(iter(data.validation_batches()))
    with torch.no_grad():
        said = student_lines(module, batch, data.validation.components[0], NUM_EXAMPLES)
        outputs = module.student_outputs(batch.fields)["logits"].softmax(-1)
    assert len(said) == NUM_EXAMPLES < VALIDATION
    for row, lines in enumerate(said):
        best = int(outputs[row].argmax())
        assert lines[0] == f"student: {best} {outputs[row, best].item():.1%}" and len(lines) == 3
    sheets: list[tuple[Image.Image, int]] = []
    examples = Examples(data.validation.components, [lambda sheet, step: sheets.append((sheet, step))])
    assert examples._sheet(module, batch) is not None
    known = examples.known[0, int(batch.samples[0])]
    assert any(line.startswith("teacher: ") for line in known) and any(line.startswith("label: ") for line in known)


def test_of_features_the_picture_says_the_cosine(teachers: dict[str, Path], own_shards: Path) -> None:
    flags = ("--target", "pooled", "--codec", "float16", "--out", own_shards, "--devices", "cpu")
    caches.extract("--teacher", f"run:{teachers['one']}", *flags, "--split", "train")
    data = open_data(own_shards, "pooled", objective="cosine")
    module = build_module(data, data.recipe).eval()
    batch = next(iter(data.validation_batches()))
    with torch.no_grad():
        said = student_lines(module, batch, data.validation.components[0], 2)
        student = module.student_outputs(batch.fields)["pooled"].double()
    teacher = module.targets(batch, module.validation_sets, module.validation_codecs)[0].vectors.double()
    cosines = (student * teacher).sum(1) / student.norm(dim=1) / teacher.norm(dim=1)
    assert [float(line.split()[2]) for (line,) in said] == pytest.approx(cosines[:2].tolist(), abs=6e-4)  # 3 digits


@pytest.fixture(scope="session")
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Trackio keeps its databases; it asks once, when it is imported."""
    os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))
    trackio = pytest.importorskip("trackio", reason="pip install 'teacher-shards[trackio]'")
    return Path(trackio.TRACKIO_DIR if hasattr(trackio, "TRACKIO_DIR") else trackio.utils.TRACKIO_DIR)


def test_trackio_has_losses_pictures_and_facts(
    shards: Path, tmp_path: Path, trackio_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_PROJECT", "tested")
    recipe = write_recipe(tmp_path / "test.yaml")
    done = distill(shards, tmp_path / "run", *ONE, "--recipe", recipe, "--logger", "trackio").succeeds()
    assert all(line.startswith("distill: ") for line in done.out.splitlines())
    with sqlite3.connect(trackio_folder / "tested.db") as database:
        own = ((tmp_path / "run/trackio.name").read_text(),)
        rows = database.execute("select step, metrics from metrics where run_name = ?", own).fetchall()
        (config,) = database.execute("select config from configs where run_name = ?", own).fetchone()
    logged = [(step, json.loads(metrics)) for step, metrics in rows]
    losses = logged_losses(tmp_path / "run")
    assert {step: metrics["val_loss"] for step, metrics in logged if "val_loss" in metrics} == pytest.approx(losses)
    pictures = [metrics["examples"]["file_path"] for _, metrics in logged if "examples" in metrics]
    assert len(pictures) == 2
    assert min(Image.open(trackio_folder / "media" / pictures[0]).size) > CELL
    assert json.loads(config)["cache"] == open_data(shards).training.identity()


def test_a_run_has_a_name_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    """Two runs in folders of one name, one of them begun anew: no curve is another's."""

    def named(folder: str, resumes: bool) -> str:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        return own_name(LoggedRun(tmp_path / folder, {}, resumes), "trackio")

    first, other = named("one/run", resumes=False), named("other/run", resumes=False)
    assert first != other and all(name.startswith("run-") for name in (first, other))
    assert named("one/run", resumes=True) == first == named("one/run", resumes=True)
    (tmp_path / "one").rename(tmp_path / "moved")
    assert named("moved/run", resumes=True) == first
    assert named("moved/run", resumes=False) not in (first, other)
    assert named("third/run", resumes=True) not in (first, other)  # whose first attempt had another logger


def test_names_are_refused_in_one_line(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert logger_names("csv") == ["csv"] and logger_names("wandb, csv,wandb") == ["csv", "wandb"]
    distill(shards, tmp_path / "run", "--logger", "tensorbord").refuses("unknown logger", "did you mean tensorboard?")
    for name in ("trackio", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
        refused = distill(shards, tmp_path / "run", "--logger", f"csv,{name}")
        refused.refuses(f"--logger {name}: ", f"pip install 'teacher-shards[{name}]'")
    assert not (tmp_path / "run").exists()


def test_the_flag_of_before_is_read(tmp_path: Path) -> None:
    from distill.config import ALIASES, DistillConfig
    from shards.command.arguments import parse

    def logger(*flags: str) -> str:
        return parse(DistillConfig, "distill", ["--shards", "x", *flags], "", aliases=ALIASES).logger

    assert logger() == logger("--wandb", "false") == "csv"
    assert logger("--wandb") == logger("--wandb=true") == "csv,wandb"
    assert logger("--logger", "tensorboard", "--wandb") == "tensorboard,wandb"
    assert logger("--logger", "wandb", "--wandb") == "wandb"
    with pytest.raises(BadInput, match="--wandb maybe: expected true or false"):
        logger("--wandb=maybe")
    saved = tmp_path / "config.yaml"
    for values, wanted in (
        ({"wandb": False}, "csv"),
        ({"wandb": True, "epochs": 3}, "csv,wandb"),
        ({"logger": "trackio"}, "trackio"),
        ({"wandb": False, "warmup": None, "compile": False}, "csv"),
    ):
        saved.write_text(yaml.safe_dump(values))
        assert logger("--config", str(saved)) == wanted
    saved.write_text(yaml.safe_dump({"wandb": True}))
    assert logger("--config", str(saved), "--logger", "tensorboard") == "tensorboard"
