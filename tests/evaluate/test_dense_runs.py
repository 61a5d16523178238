"""Runs whose student gives features by name and no logits."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from digits_bench import Bench
from PIL import Image

from evaluate.__main__ import main
from evaluate.student import load_student
from evaluate.tasks.finetune import Classifier
from extract.__main__ import main as extract
from extract.networks import load_exported
from shards.decode import codec_of, read_decoded
from shards.errors import BadInput
from shards.reader import TargetSet, ViewSet


def measured(run: Path, task: str, *flags: str) -> dict:
    main(["--run", str(run), "--task", task, *flags])
    return json.loads((run / "evaluation.json").read_text())[task]


def test_fidelity_is_to_the_very_target_that_the_run_learned_from(dense: Bench) -> None:
    record = measured(dense.run(), "fidelity", "--batch_size", "50")
    assert "-layer_mean-int8-" in record["targetset"] and record["num_samples"] == 120
    viewset = ViewSet(next(dense.cache.glob("digits-validation-*")))
    targetset = TargetSet(viewset.folder / "targets" / record["targetset"])
    teacher = read_decoded(targetset, codec_of(targetset), 0, viewset.usable)
    student = load_student(dense.student, "cpu", "float32").only("layer_mean")
    images = [np.asarray(Image.open(BytesIO(viewset.storage.content(0, index, "png")))) for index in range(120)]
    outputs = student({"pixels": torch.from_numpy(np.stack(images))})
    assert set(outputs) == {"layer_mean"}
    cosines = torch.cosine_similarity(teacher, outputs["layer_mean"], dim=-1)
    assert record["cosine"] == pytest.approx(cosines.mean().item(), abs=1e-5) and record["cosine"] < 0.99
    assert record["cosine_worst_percentile"] == pytest.approx(cosines.quantile(0.01).item(), abs=1e-5)
    x, y = (
        rows.flatten(0, 1).double() - rows.flatten(0, 1).double().mean(0) for rows in (teacher, outputs["layer_mean"])
    )
    cka = (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert record["cka"] == pytest.approx(cka.item(), abs=1e-5)


def test_the_teacher_is_faithful_to_itself_but_for_its_codec(dense: Bench) -> None:
    run = dense.run(exported=dense.teacher)
    record = measured(run, "fidelity")
    assert record["cosine"] > 0.999 and record["cosine_worst_percentile"] > 0.998 and record["cka"] > 0.999
    exact = measured(run, "fidelity", "--targetset", "cls")
    assert exact["cosine"] == pytest.approx(1, abs=1e-5) and exact["cka"] == pytest.approx(1, abs=1e-5)


def test_kept_tokens_are_enough_for_fidelity(dense: Bench, tmp_path: Path) -> None:
    flags = [
        "--teacher",
        "data2vec2",
        "--weights",
        str(dense.teacher.with_suffix(".pt")),
        "--out",
        str(tmp_path / "kept"),
    ]
    extract(
        [*flags, "--data", "digits", "--split", "validation", "--limit", "60", "--codec", "int8", "--keep_tokens", "4"]
    )
    run = dense.run(exported=dense.teacher)
    record = measured(run, "fidelity", "--shards", str(tmp_path / "kept"))
    assert record["cosine"] > 0.999 and record["num_samples"] == 60


def test_knn_linear_and_finetune_need_no_logits(dense: Bench) -> None:
    run = dense.run()
    before = load_exported(run)[0].state_dict()
    main(["--run", str(run), "--task", "knn,linear,finetune", "--epochs", "2", "--batch_size", "64", "--limit", "128"])
    held = json.loads((run / "evaluation.json").read_text())
    assert set(held) == {"knn", "linear", "finetune"}
    tuned = torch.load(run / held["finetune"]["folder"] / "checkpoint.pt", weights_only=True)["classifier"]
    for name in (
        "network.encoder.local_encoder.proj.weight",
        "network.encoder.extra_tokens",
        "network.blocks.1.mlp.fc1.bias",
    ):
        assert not torch.equal(tuned[f"backbone.{name}"], before[name]), name  # everything is trained
    after = load_exported(run)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_head_sees_the_mean_of_the_patches(dense: Bench) -> None:
    student = load_student(dense.student, "cpu", "float32")
    classifier = Classifier(student.only("pooled").network, 16, 3)
    images = torch.randn(2, 3, 12, 12)
    tokens = student.network(images)["tokens"]
    pooled = tokens[:, 1:].mean(1)
    expected = classifier.head[1](torch.nn.functional.layer_norm(pooled, (16,), eps=1e-6))
    torch.testing.assert_close(classifier(images)["logits"], expected)


def test_accuracy_says_what_can_be_measured_instead(dense: Bench) -> None:
    with pytest.raises(BadInput, match=r"features and no logits; give --task linear, knn, finetune or fidelity"):
        main(["--run", str(dense.run()), "--task", "accuracy"])
