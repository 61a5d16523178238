"""glue: what it learns from files in the hub's layout, how scores follow from predictions, and that it resumes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from glue_files import write_glue, write_task
from text_bench import TinyBert, evaluation
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_f1_score, binary_matthews_corrcoef

from evaluate.preset import resolve
from evaluate.tasks import glue
from evaluate.text_tuning import TextTuning
from evaluate.training import CHECKPOINT
from extract.modalities.token_source import tokenised
from extract.modalities.tokenizer import TextTokenizer
from extract.sources.glue import TASKS
from shards.errors import BadInput, Damaged

FAST = {"batch_size": 16, "lr": 3e-3, "epochs": 8}


def settings(*tasks: str, **changes: Any) -> glue.Settings:
    """The thesis's, of these tasks alone."""
    preset = resolve("glue", glue.Settings, evaluation(Path()).config, lambda: "")
    return replace(preset, tasks={name: preset.tasks[name] for name in tasks or preset.tasks}, **changes)


def measure(folder: Path, files: Path, *tasks: str, network: nn.Module | None = None, **flags: Any) -> dict[str, Any]:
    return glue.measure(evaluation(folder, network, data_dir=str(files), **FAST | flags), settings(*tasks))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"), num_train=160)


class Unused(TinyBert):
    """A network that must not run."""

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        raise AssertionError("runs again")


@pytest.mark.slow
def test_it_learns_classes_of_sentences_and_of_pairs_and_scores(data: Path, tmp_path: Path) -> None:
    # a regression begins far from its scores, and needs longer
    tasks = {"cola": FAST, "mrpc": FAST, "mnli": FAST, "stsb": FAST | {"epochs": 30}}
    record = glue.measure(evaluation(tmp_path, data_dir=str(data)), replace(settings(), tasks=tasks))
    for task, chance in {"cola": 0, "mrpc": 0.5, "mnli": 1 / 3, "stsb": 0}.items():
        assert record[task] > chance + 0.2, (task, record[task])
    assert record["tasks"] == tasks


def test_all_nine_tasks_are_measured_once(data: Path, tmp_path: Path) -> None:
    record = measure(tmp_path, data, epochs=1, limit=32)
    scores = [record[task] for task in TASKS]
    assert record["average"] == pytest.approx(sum(scores) / 9, abs=1e-6)
    both = [record[f"mnli_accuracy_{kind}"] for kind in ("matched", "mismatched")]
    assert record["mnli"] == pytest.approx(sum(both) / 2, abs=1e-6)
    assert record["num_samples"] == 10 * 32 and record["samples"]["mnli"] == 64
    assert not list(tmp_path.rglob(CHECKPOINT))  # nine networks a run would be gigabytes
    assert measure(tmp_path, data, epochs=1, limit=32, network=Unused()) == record


@pytest.mark.slow
def test_scores_are_those_of_the_predictions(data: Path, tmp_path: Path) -> None:
    at_work = evaluation(tmp_path, data_dir=str(data), **FAST | {"epochs": 2})
    runs = {name: glue.GlueRun(at_work, name, settings()) for name in ("cola", "mrpc", "stsb", "mnli")}
    said: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, run in runs.items():
        student, _ = run.tuning.run()
        pairs = [run.tuning.predictions(student, test) for test in run.tests]
        for (truth, _), test in zip(pairs, run.tests, strict=True):
            labels = [test.read(row).label for row in range(len(test.keys))]
            assert truth.tolist() == pytest.approx(labels)
        said[name] = [(torch.tensor(truth), torch.tensor(predicted)) for truth, predicted in pairs]
    scores = {name: run.scores() for name, run in runs.items()}  # from the checkpoints
    for name, metric, expected in (
        ("cola", "matthews", binary_matthews_corrcoef),
        ("mrpc", "f1", binary_f1_score),
        ("mrpc", "accuracy", lambda predicted, truth: (predicted == truth).double().mean()),
    ):
        truth, predicted = said[name][0]
        assert scores[name][metric] == pytest.approx(expected(predicted, truth).item(), abs=2e-6)
    (truth, predicted) = said["stsb"][0]
    assert scores["stsb"]["pearson"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1], abs=2e-6)
    both = [(truth == predicted).double().mean().item() for truth, predicted in said["mnli"]]
    assert scores["mnli"]["accuracy"] == pytest.approx(sum(both) / 2, abs=2e-6)


class Cut(BaseException):
    """The process is killed."""


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_numbers_of_an_uninterrupted_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(tmp_path / "whole", data, "rte", "mrpc", epochs=3)
    left = 2 * 160 + 70  # in the middle of the third epoch
    make = TextTuning.make

    def until(self: TextTuning, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cut
        return make(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TextTuning, "make", until)
        with pytest.raises(Cut):
            measure(tmp_path / "cut", data, "rte", "mrpc", epochs=3)
    (checkpoint,) = (tmp_path / "cut").rglob(CHECKPOINT)
    assert torch.load(checkpoint, weights_only=True)["epochs"] == 2
    torch.rand(3)
    resumed = measure(tmp_path / "cut", data, "rte", "mrpc", epochs=3)
    assert resumed == whole


@pytest.mark.slow
def test_what_a_score_follows_from_is_in_its_folders_name(data: Path, tmp_path: Path) -> None:
    for flags in ({}, {"epochs": 2}, {"seed": 1}, {"limit": 100}):
        measure(tmp_path, data, "rte", **{"epochs": 1} | flags)
    at_work = evaluation(tmp_path, data_dir=str(data), **FAST | {"epochs": 1})
    glue.measure(at_work, settings("rte", max_tokens=8))
    write_task(tmp_path / "other", "rte", "train", 160)
    write_task(tmp_path / "other", "rte", "validation", 40, seed=2)
    measure(tmp_path, tmp_path / "other", "rte", epochs=1)  # measured on other sentences
    assert len(list(tmp_path.glob("finetune-glue-rte-*"))) == 6


def test_scores_that_were_altered_are_refused(data: Path, tmp_path: Path) -> None:
    measure(tmp_path, data, "rte", epochs=1)
    (document,) = tmp_path.rglob(glue.DOCUMENT)
    document.write_text(document.read_text().replace('"num_samples": 48', '"num_samples": 49'))
    with pytest.raises(Damaged, match=r"scores\.json.*remove its folder to train again"):
        measure(tmp_path, data, "rte", epochs=1)


def test_sentences_that_are_too_long_are_cut_and_counted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_work = evaluation(tmp_path, data_dir=str(data), **FAST | {"epochs": 1})
    glue.measure(at_work, settings("rte", max_tokens=8))  # pairs of 4 and 3 words, and three special tokens
    assert "glue-rte: 208 samples of 8 tokens or more, cut off there" in capsys.readouterr().out
    glue.measure(at_work, settings("rte"))
    assert "cut" not in capsys.readouterr().out


def test_a_network_is_told_which_sentence_is_which(data: Path, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Seen(TinyBert):
        def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
            seen.append(torch.stack([each.long() for each in inputs]))
            return super().forward(*inputs)

    at_work = evaluation(tmp_path, Seen(), data_dir=str(data), **FAST | {"epochs": 1})
    run = glue.GlueRun(at_work, "rte", settings())
    first = tokenised(run.tests[0], run.tuning.tokenizer, run.tuning.size).read(0)
    assert first.fields is not None and first.label == run.tests[0].read(0).label
    fields = {name: torch.from_numpy(rows)[None] for name, rows in run.tuning.make(first, 0)[0].items()}
    inputs = at_work.student.inputs.prepare(at_work.student.inputs.cut(fields))
    at_work.student.network(*inputs.values())
    ids, mask, types = seen[0][:, 0]
    # [CLS] four words [SEP] three words [SEP]
    assert ids[[0, 5, 9]].tolist() == [2, 3, 3] and mask.tolist() == [1] * 10
    assert types.tolist() == [0] * 6 + [1] * 4


def test_every_epoch_reads_the_tokens_of_the_first(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenised: list[int] = []
    rows = TextTokenizer.rows

    def counted(self: TextTokenizer, texts: Sequence[tuple[str, ...]], size: int) -> dict[str, Any]:
        tokenised.append(len(texts))
        return rows(self, texts, size)

    monkeypatch.setattr(TextTokenizer, "rows", counted)
    measure(tmp_path, data, "rte", epochs=3)
    assert tokenised == [160, 48]  # the training's texts and the test's, once each


def test_the_pooler_starts_as_the_teachers_where_its_files_have_it(data: Path, tmp_path: Path) -> None:
    config = TinyBert().settings.config | {"model_type": "bert"}
    model = transformers.AutoModelForMaskedLM.from_config(transformers.AutoConfig.for_model(**config))
    model.save_pretrained(tmp_path / "without")
    pooled = transformers.BertModel(model.config)
    pooled.save_pretrained(tmp_path / "with")

    def tuning(teacher: str | None) -> TextTuning:
        at_work = evaluation(tmp_path, data_dir=str(data), teacher=teacher, **FAST)
        return glue.GlueRun(at_work, "rte", settings()).tuning

    found = {name: tuning(f"hf:{tmp_path / name}") for name in ("with", "without")} | {"none": tuning(None)}
    assert found["without"].pooler is None and found["without"].folder == found["none"].folder
    assert found["with"].folder != found["none"].folder
    pooler = found["with"].classifier().pooler
    assert torch.equal(pooler.weight, pooled.pooler.dense.weight)
    assert torch.equal(pooler.bias, pooled.pooler.dense.bias)
    assert not torch.equal(found["none"].classifier().pooler.weight, pooler.weight)


def test_what_is_wrong_is_told_before_the_first_training(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="GLUE's cola: no parquet file in"):
        measure(tmp_path / "run", tmp_path)
    with pytest.raises(BadInput, match="--data digits: --task glue brings its own"):
        measure(tmp_path / "run", data, data="digits")
    with pytest.raises(BadInput, match=r"split test: 8 of 8 rows have no label \(-1\).*give --split validation"):
        measure(tmp_path / "run", data, "rte", split="test")
    with pytest.raises(BadInput, match="--batch_size 500: train has 160 samples"):
        measure(tmp_path / "run", data, "rte", batch_size=500)
    odd = replace(settings(), tasks={"sst": {}})
    with pytest.raises(BadInput, match="unknown GLUE task 'sst': did you mean sst2"):
        glue.measure(evaluation(tmp_path / "run", data_dir=str(data)), odd)
    with pytest.raises(BadInput, match=r"(?s)--preset glue: rte.*epochs"):
        glue.measure(evaluation(tmp_path / "run", data_dir=str(data)), replace(settings(), tasks={"rte": {"lr": 1e-3}}))
    with pytest.raises(BadInput, match="--preset glue: tasks names none; name some of cola, sst2"):
        glue.measure(evaluation(tmp_path / "run", data_dir=str(data)), replace(settings(), tasks={}))
    with pytest.raises(BadInput, match="the loss of epoch 1 is nan: give a lower --lr"):
        measure(tmp_path / "run", data, "rte", lr=1e30)
    assert not list((tmp_path / "run").rglob("*.json"))
