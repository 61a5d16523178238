"""Tasks on texts by their commands: classification of any labelled text, embeddings of sentences, pairs with scores."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from caches import command
from glue_files import COLOURS, THINGS, write_glue
from text_bench import SIZE, TinyBert, evaluation, tokenizer, write_run, write_teacher

from evaluate.metrics import METRICS
from evaluate.tasks import sts


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "student")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line a text, of the class that its colour tells."""
    folder = tmp_path_factory.mktemp("texts")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 96), ("validation", 48)):
        rows = []
        for number in range(count):
            things = [THINGS[index] for index in torch.randint(8, (3,), generator=generator)]
            colour = COLOURS[4 * (number % 2) + int(torch.randint(4, (1,), generator=generator))]
            rows.append({"text": f"{things[0]} {colour} {things[1]} {things[2]}", "sort": ["cold", "warm"][number % 2]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def measured(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_bytes())


@pytest.mark.slow
def test_any_labelled_text_is_classified(run: Path, texts: Path) -> None:
    data = f"text:{texts}:label=sort"
    flags = ("--run", run, "--data", data, "--epochs", "8", "--batch_size", "16", "--lr", "0.003")
    command("evaluate", *flags, "--task", "text_classification,linear,knn", "--k", "5").succeeds()
    results = measured(run)
    tuned = results["text_classification"]
    assert tuned["top1"] > 0.7 and tuned["f1"] > 0.6
    assert results["linear"]["train_top1"] > 0.6 and results["knn"]["top1"] > 0.3
    assert {record["num_samples"] for record in results.values()} == {48}
    checkpoint = run / tuned["folder"] / "checkpoint.pt"
    written = checkpoint.stat().st_mtime_ns
    command("evaluate", *flags, "--task", "text_classification").succeeds()  # not trained again
    assert checkpoint.stat().st_mtime_ns == written and measured(run)["text_classification"]["top1"] == tuned["top1"]


def test_knn_is_what_cosines_of_pooled_embeddings_say(run: Path, texts: Path) -> None:
    command("evaluate", "--run", run, "--data", f"text:{texts}:label=sort", "--task", "knn", "--k", "1").succeeds()
    lines = {
        split: [json.loads(line) for line in (texts / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "validation")
    }
    network, tokens = TinyBert().eval(), tokenizer()
    embedded = {}
    with torch.no_grad():
        for split, rows in lines.items():
            ids = torch.tensor([[2, *tokens.ids([row["text"]])[0].tolist(), 3] for row in rows])
            embedded[split] = F.normalize(network(ids, torch.ones_like(ids))["pooled"])
    nearest = (embedded["validation"] @ embedded["train"].T).argmax(1).tolist()
    hits = [lines["train"][near]["sort"] == row["sort"] for near, row in zip(nearest, lines["validation"], strict=True)]
    assert measured(run)["knn"]["top1"] == pytest.approx(sum(hits) / 48, abs=1e-6)


def test_sts_is_the_order_of_cosines(run: Path, tmp_path: Path) -> None:
    rows = [
        ("red house", "red house", 5.0),
        ("red house river", "blue house river", 3.5),
        ("stone cloud", "white paper light", 0.5),
        ("table", "horse light stone paper", 1.0),
        ("grey table horse", "grey table", 4.0),
    ]
    table = tmp_path / "pairs.tsv"
    table.write_text("a\tb\tscore\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows))
    command("evaluate", "--run", run, "--task", "sts", "--data", f"sentences:{table}").succeeds()
    network, tokens = TinyBert().eval(), tokenizer()

    def embed(text: str) -> torch.Tensor:
        ids = torch.tensor([[2, *tokens.ids([text])[0].tolist(), 3]])
        with torch.no_grad():
            return network(ids, torch.ones_like(ids))["pooled"][0]

    cosines = torch.stack([F.cosine_similarity(embed(a), embed(b), dim=0) for a, b, _ in rows]).numpy()
    scores = torch.tensor([score for *_, score in rows]).numpy()
    record = measured(run)["sts"]
    for name in ("spearman", "pearson"):
        assert record[name] == pytest.approx(METRICS[name](scores, cosines), abs=1e-5)
    assert record["num_samples"] == 5 and math.isclose(cosines[0], 1, rel_tol=1e-6)


def test_sts_without_data_is_stsb(tmp_path: Path) -> None:
    glue = write_glue(tmp_path / "glue", 8, 24)
    record = sts.measure(evaluation(tmp_path, data_dir=str(glue)), None)
    assert record["data"] == "glue:stsb" and record["num_samples"] == 24 and record["split"] == "validation"


@pytest.mark.slow
def test_glue_by_its_command_beside_its_teacher(run: Path, tmp_path: Path) -> None:
    glue, teacher = write_glue(tmp_path / "glue", 32, 16), write_teacher(tmp_path / "teacher")
    preset = tmp_path / "two.yaml"
    command("evaluate", "--run", run, "--task", "glue", "--data_dir", glue, "--preset", "two").refuses("two")
    tasks = "tasks: {rte: {epochs: 1, batch_size: 8, lr: 0.001}, stsb: {epochs: 1, batch_size: 8, lr: 0.001}}"
    common = "betas: [0.9, 0.98]\neps: 1.0e-6\nweight_decay: 0.1\nwarmup: 0.1\nlayer_decay: 1.0\ndropout: 0.1"
    preset.write_text(f"task: glue\n{tasks}\n{common}\nmax_tokens: 256\n")
    flags = ("--run", run, "--task", "glue", "--data_dir", glue, "--preset", preset, "--teacher", f"hf:{teacher}")
    out = command("evaluate", *flags).succeeds().out
    record = measured(run)["glue"]
    assert record["dropout"] == 0.1 and record["tasks"]["rte"] == {"epochs": 1, "batch_size": 8, "lr": 0.001}
    (folder,) = run.parent.glob("teacher-hf-teacher-*")
    lines = {tuple(line.split()[:2]): line.split()[2:] for line in out.splitlines() if line.startswith("glue ")}
    assert list(lines) == [("glue", name) for name in ("rte", "stsb", "average", "stsb_pearson")]
    for (_, name), (value, taught, kept, *_) in lines.items():
        assert value == f"{record[name]:.4f}" and taught == f"{measured(folder)['glue'][name]:.4f}"
        assert kept == "-" or kept.endswith("%")
    assert (
        len(list(folder.glob("finetune-glue-*/scores.json"))) == len(list(run.glob("finetune-glue-*/scores.json"))) == 2
    )
    again = command("evaluate", *flags).succeeds().out
    assert again.splitlines()[:-1] == out.splitlines()[:-1]
    saved = run / "evaluate-glue.yaml"
    command("evaluate", "--config", saved).succeeds()
    assert {**measured(run)["glue"], "seconds": 0} == {**record, "seconds": 0}


def test_fidelity_is_of_tokens_that_are_no_padding(run: Path, texts: Path, tmp_path: Path) -> None:
    teacher, cache = write_run(tmp_path / "teacher", TinyBert(1)), tmp_path / "cache"
    flags = ("--teacher", f"run:{teacher}", "--data", f"text:{texts}", "--view", f"blocks:size={SIZE},pack=none")
    targets = ("--target", "tokens,pooled", "--codec", "float32", "--devices", "cpu")
    command("extract", *flags, *targets, "--split", "validation", "--out", cache).succeeds()
    sentences = [json.loads(line)["text"] for line in (texts / "validation.jsonl").read_text().splitlines()]
    encoded = tokenizer().ids(sentences)
    networks = [TinyBert(1).eval(), TinyBert().eval()]
    for target in ("tokens", "pooled"):
        command("evaluate", "--run", run, "--task", "fidelity", "--shards", cache, "--targetset", target).succeeds()
        rows: list[list[torch.Tensor]] = [[], []]
        for ids in encoded:
            row = torch.tensor([[2, *ids.tolist(), 3]])
            for network, found in zip(networks, rows, strict=True):
                with torch.no_grad():
                    found.append(network(row, torch.ones_like(row))[target].reshape(-1, 32))
        cosines = F.cosine_similarity(torch.cat(rows[0]), torch.cat(rows[1]), dim=1)
        record = measured(run)["fidelity"]
        assert record["cosine"] == pytest.approx(cosines.mean().item(), abs=1e-5)
        assert record["num_samples"] == 48


def test_what_is_no_data_for_a_task_of_texts_is_told_in_one_line(run: Path, texts: Path, tmp_path: Path) -> None:
    def refuses(task: str, data: str, *words: str) -> None:
        command("evaluate", "--run", run, "--task", task, "--data", data).refuses(data, *words)

    scores, words = tmp_path / "scores.tsv", tmp_path / "words.tsv"
    scores.write_text("a\tb\tscore\nred\tblue\t0.5\n")
    words.write_text("a\tlabel\nred\t1\n")
    refuses("sts", f"sentences:{words}", "expected pairs of sentences", "glue:stsb")
    refuses("sts", "digits", "expected pairs of sentences")
    classes = tmp_path / "classes.tsv"  # a correlation with classes that have no order would be a number of no meaning
    classes.write_text("a\tb\tlabel\nred\tblue\tentailment\nred\tred\tneutral\n")
    refuses("sts", f"sentences:{classes}", "expected pairs of sentences with scores")
    refuses("knn", "digits", "its samples have no texts")
    refuses("text_classification", "digits", "its samples have no texts")
    unlabelled = f"text:{texts}"
    flags = ("--run", run, "--epochs", "1", "--batch_size", "1")
    for data in (unlabelled, f"sentences:{scores}"):
        failed = command("evaluate", *flags, "--task", "text_classification", "--data", data)
        failed.refuses("the samples have no labels")
