"""Runs of images and texts by their commands: retrieval, zero-shot, and a query's picture."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caches import command
from PIL import Image
from torch import Tensor

from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.pairs import Embedder
from evaluate.preset import resolve
from evaluate.student import load_student
from evaluate.tasks import retrieval, zeroshot
from extract.modalities.base import feed
from extract.modalities.pair import PairInput
from extract.modalities.text import TextInput
from extract.networks import load_exported
from extract.sources import open_source
from extract.teachers import load_teacher
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet
from tests.evaluate.pair_bench import CPU, NUM, measured, oracle
from tests.pairs import COLOURS, SIDE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a colour, of one picture each, and pairs of these with one to three captions."""
    root = tmp_path_factory.mktemp("colours")
    for name, colour in COLOURS.items():
        (root / "classes/validation" / name).mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE), colour).save(root / "classes/validation" / name / "a.png")
    with tarfile.open(root / "validation.tar", "w") as tar:
        for number, (name, colour) in enumerate(COLOURS.items()):
            buffer = io.BytesIO()
            Image.new("RGB", (SIDE, SIDE), colour).save(buffer, "PNG")
            captions = [f"{name} cat", f"{name} river", f"{name} moon"][: 1 + number % 3]
            for ending, content in (("png", buffer.getvalue()), ("json", json.dumps({"caption": captions}).encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return root


def settings_of(task: Any, **changes: Any) -> Any:
    name = task.__name__.rpartition(".")[2]
    return task.Settings(**{**vars(resolve(name, task.Settings, EvaluateConfig(), lambda: "any")), **changes})


def test_an_oracle_finds_everything_and_a_constant_nothing(pairs: Path, colours: Path, tmp_path: Path) -> None:
    table = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    data = {"data": f"wds:{colours}/validation.tar:captions=caption"}
    record = retrieval.measure(oracle(pairs, tmp_path, table, table, **data), settings_of(retrieval))
    assert {record[f"{way}_{name}"] for way in ("i2t", "t2i") for name in ("r1", "r10", "median_rank")} == {1.0}
    assert record["samples"] == {"i2t": 4, "t2i": 1 + 2 + 3 + 1} and record["output"] == "shared_2"
    assert record["chance"]["t2i_r1"] == 0.25
    assert record["chance"]["i2t_r1"] == pytest.approx((1 + 2 + 3 + 1) / 7 / 4, abs=1e-6)
    one = retrieval.measure(oracle(pairs, tmp_path, table, table, **data), settings_of(retrieval, captions=1))
    assert one["samples"] == {"i2t": 4, "t2i": 4} and one["i2t_r1"] == 1
    constant = torch.ones(4, 8)
    record = retrieval.measure(oracle(pairs, tmp_path, constant, constant, **data), settings_of(retrieval))
    assert record["i2t_r1"] == record["t2i_r1"] == 0 and record["t2i_median_rank"] == 4
    swapped = oracle(pairs, tmp_path, table, table[[1, 0, 2, 3]], **data)
    assert retrieval.measure(swapped, settings_of(retrieval))["t2i_r1"] == pytest.approx((3 + 1) / 7, abs=1e-6)


def test_zeroshot_by_an_oracle(pairs: Path, colours: Path, tmp_path: Path) -> None:
    table = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "own.txt").write_text("# mine\n\n{} cat\n{} {}\n")
    changes = {"templates": str(tmp_path / "own.txt")}
    data = {"data": f"folder:{colours / 'classes'}"}
    names = sorted(COLOURS)
    record = zeroshot.measure(oracle(pairs, tmp_path, table, table, **data), settings_of(zeroshot, **changes))
    assert record["top1"] == 1 and record["chance"] == {"top1": 0.25} and "top5" not in record
    assert record["num_classes"] == 4 and record["num_templates"] == 2 and record["num_samples"] == 4
    blind = torch.ones(4, 8)
    assert (
        zeroshot.measure(oracle(pairs, tmp_path, blind, blind, **data), settings_of(zeroshot, **changes))["top1"] == 0
    )
    evaluation = oracle(pairs, tmp_path, table, table, **data)
    embedder = Embedder.of(evaluation, "test")
    rows = [embedder.sentences([f"{name} cat", f"{name} {name}"]) for name in names]
    prototypes = zeroshot.class_prototypes(embedder, names, ["{} cat", "{} {}"])
    assert torch.allclose(prototypes, torch.stack([F.normalize(each.mean(0), dim=0) for each in rows]), atol=1e-6)


def test_clips_templates_are_whole() -> None:
    for name, number in (("imagenet", 80), ("cifar", 18)):
        templates = zeroshot.read_templates(name)
        assert len(set(templates)) == len(templates) == number
    cifar = resolve("zeroshot", zeroshot.Settings, EvaluateConfig(), lambda: "cifar10")
    assert cifar.templates == "cifar"


def test_stored_views_give_what_their_source_gives(pairs: Path, run: Path) -> None:
    flags = ("--run", run, "--task", "retrieval", *CPU)
    out = command("evaluate", *flags, "--batch_size", "7").succeeds().out
    of_source = measured(run)["retrieval"]
    assert of_source["samples"] == {"i2t": NUM, "t2i": 2 * NUM} and of_source["output"] == "head"
    assert "chance" in out.splitlines()[0] and "t2i_median_rank" in out
    command("evaluate", *flags, "--shards", pairs / "cache").succeeds()
    stored = measured(run)["retrieval"]
    assert stored["data"].startswith("wds-data-validation-")
    alike = {name for name in stored if name[1:3] == "2i" or name[1:3] == "2t"}
    assert len(alike) == 8 and all(stored[name] == of_source[name] for name in alike)
    (kept,) = (record for name, record in measured(run).items() if name.startswith("retrieval on wds:"))
    assert kept == of_source  # what was measured on other data stays
    command(
        "evaluate", *flags, "--shards", pairs / "cache", "--preset", "retrieval:captions=1,output=shared_1"
    ).succeeds()
    changed = measured(run)["retrieval"]
    assert changed["samples"]["t2i"] == NUM and changed["output"] == "shared_1" and changed["captions"] == 1
    table = command("evaluate", "--runs", run).succeeds().out
    assert "i2t-R@1" in table and "t2i-rank" in table


def test_retrieval_is_what_cosines_of_the_heads_say(pairs: Path, run: Path) -> None:
    """Against the network fed by hand, a caption at a time."""
    command(
        "evaluate", "--run", run, "--task", "retrieval", *CPU, "--data", f"wds:{pairs}/data:captions=caption"
    ).succeeds()
    student = load_student(run, "cpu", "float32")
    source = open_source(f"wds:{pairs}/data:captions=caption", "validation")
    assert isinstance(student.inputs, PairInput)
    images, texts, owners = list[Tensor](), list[Tensor](), list[int]()
    for index in range(NUM):
        sample = source.read(index)
        pixels = torch.from_numpy(np.array(sample.image.convert("RGB")))[None]
        for caption in sample.texts:
            rows = student.inputs.text.tokenizer.rows([(caption,)], student.inputs.text.size)
            fields = {"pixels": pixels, **{name: torch.from_numpy(rows[name]) for name in ("tokens", "length")}}
            with torch.no_grad():
                outputs = feed(student.network, student.inputs, fields)
            texts.append(outputs["text/head"][0])
            owners.append(index)
        images.append(outputs["image/head"][0])
    cosines = F.normalize(torch.stack(texts)) @ F.normalize(torch.stack(images)).T
    places = [int((row >= row[owner]).sum()) for row, owner in zip(cosines, owners, strict=True)]
    record = measured(run)["retrieval"]
    assert record["t2i_median_rank"] == np.median(places)
    assert record["t2i_r5"] == pytest.approx(np.mean([place <= 5 for place in places]), abs=1e-6)


def test_heads_on_two_towers_retrieve_from_stored_rows(pairs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(pairs / "runs/align", tmp_path / "align"))
    command("evaluate", "--run", run, "--task", "retrieval", *CPU, "--batch_size", "10").succeeds()
    record, network = measured(run)["retrieval"], load_exported(run)[0].eval()
    assert record["samples"] == {"i2t": NUM, "t2i": 2 * NUM} and record["output"] == "head"
    (viewset,) = (pairs / "cache").glob("wds-data-validation-*")
    towers = {}
    for name in ("run-teacher-pooled", "hf-bert-pooled"):
        (folder,) = (viewset / "targets").glob(f"{name}-*")
        targetset = TargetSet(folder)
        decoded = read_decoded(targetset, codec_of(targetset), 0, np.arange(NUM))
        towers[name] = getattr(decoded, "rows", decoded).float()
    counts = torch.tensor([1 + number % 3 for number in range(1000, 1000 + NUM)])
    with torch.no_grad():
        outputs = network(towers["run-teacher-pooled"], towers["hf-bert-pooled"], counts)
    texts = F.normalize(outputs["text/head"][outputs["text/valid"]])
    cosines = texts @ F.normalize(outputs["image/head"]).T
    own = cosines.gather(1, torch.arange(NUM).repeat_interleave(counts)[:, None])
    assert record["t2i_r5"] == pytest.approx(((cosines >= own - 1e-6).sum(1) <= 5).double().mean().item(), abs=1e-6)
    out = command("evaluate", "--run", run, "--query", "red cat", *CPU).succeeds().out  # a caption of some pairs
    bert = load_teacher(f"hf:{pairs / 'bert'}", None, None)
    ids = bert.inputs.tokenizer.rows([("red cat",)], 8)  # type: ignore[attr-defined]
    fields = {name: torch.from_numpy(rows) for name, rows in ids.items()}
    with torch.no_grad():
        asked = network.text(feed(bert.network, bert.inputs, bert.inputs.cut(fields))["pooled"])  # type: ignore[operator]
    best = (F.normalize(outputs["image/head"]) @ F.normalize(asked)[0]).topk(12)
    lines = [line.split(maxsplit=2) for line in out.splitlines() if line.lstrip(" -")[:1].isdigit()]
    keys = open_source(f"wds:{pairs}/data:captions=caption", "validation").keys
    assert [line[1] for line in lines] == [keys[place] for place in best.indices.tolist()]
    assert [float(line[0]) for line in lines] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_towers_are_loaded_for_what_is_not_stored(pairs: Path, colours: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(pairs / "runs/align", tmp_path / "align"))
    (tmp_path / "own.txt").write_text("{} cat\na small {}\n")
    flags = ("--run", run, *CPU, "--data", f"folder:{colours / 'classes'}")
    command(
        "evaluate", *flags, "--task", "zeroshot", "--preset", f"zeroshot:templates={tmp_path / 'own.txt'}"
    ).succeeds()
    network, names = load_exported(run)[0].eval(), sorted(COLOURS)
    bert, convnet = (load_teacher(f"{spec}:{pairs / name}") for spec, name in (("hf", "bert"), ("run", "teacher")))
    inputs = bert.inputs
    assert isinstance(inputs, TextInput)
    prototypes = list[Tensor]()
    with torch.no_grad():
        for name in names:
            ids = inputs.tokenizer.rows([(f"{name} cat",), (f"a small {name}",)], 8)
            fields = inputs.cut({key: torch.from_numpy(rows) for key, rows in ids.items()})
            head = network.text(feed(bert.network, inputs, fields)["pooled"])  # type: ignore[operator]
            prototypes.append(F.normalize(F.normalize(head, dim=1).mean(0), dim=0))
        pixels = torch.tensor([COLOURS[name] for name in names], dtype=torch.uint8)[:, None, None]
        pooled = feed(convnet.network, convnet.inputs, {"pixels": pixels.expand(4, SIDE, SIDE, 3)})["pooled"]
        rows = F.normalize(network.image(pooled), dim=1)  # type: ignore[operator]
    cosines = rows @ torch.stack(prototypes).T
    own = cosines.diagonal()[:, None]
    record = measured(run)["zeroshot"]
    assert record["top1"] == ((cosines >= own - 1e-6).sum(1) <= 1).double().mean() and record["output"] == "head"
    embedder = Embedder.of(
        Evaluation(EvaluateConfig(device="cpu,threads=2"), run, load_student(run, "cpu", "float32"), "", run), ""
    )
    torch.testing.assert_close(embedder.images({"pixels": pixels.expand(4, SIDE, SIDE, 3)}), rows)
    data = ("--data", f"wds:{pairs}/data:captions=caption")
    command("evaluate", "--run", run, "--task", "retrieval", *CPU, *data).succeeds()
    record = measured(run)["retrieval"]
    assert record["data"] == data[1] and record["samples"] == {"i2t": NUM, "t2i": 2 * NUM}, "no stored rows instead"
    for task in ("knn", "accuracy", "sts"):
        command("evaluate", *flags, "--task", task).refuses("--task", "two heads", "give --task retrieval or zeroshot")
    output = ("--preset", "retrieval:output=shared_1")
    command("evaluate", "--run", run, "--task", "retrieval", *CPU, *data, *output).refuses("shared_1", "gives head")


def test_a_query_shows_the_nearest_images(pairs: Path, run: Path) -> None:
    flags = ("--run", run, "--query", "a small cat", *CPU)
    out = command("evaluate", *flags, "--shards", pairs / "cache").succeeds().out
    lines = [line.split(maxsplit=2) for line in out.splitlines() if line.lstrip(" -")[:1].isdigit()]
    cosines = [float(line[0]) for line in lines]
    assert len(lines) == 12 and cosines == sorted(cosines, reverse=True)
    assert all(" | " in line[2] or line[2].startswith("the ") for line in lines)
    assert f"the nearest of {NUM} images: {run / 'query-a-small-cat.png'}" in out
    with Image.open(run / "query-a-small-cat.png") as sheet:
        assert sheet.width > 6 * 224 and sheet.height > 2 * 224
    again = command("evaluate", *flags, "--split", "train", "--limit", "5").succeeds().out  # of the run's own cache
    assert sum(line.lstrip(" -")[:1].isdigit() for line in again.splitlines()) == 5
    student = load_student(run, "cpu", "float32")
    embedder = Embedder.of(Evaluation(EvaluateConfig(), run, student, "", run), "test")
    source = open_source(f"wds:{pairs}/data:captions=caption", "validation")
    asked, best = embedder.sentences(["a small cat"])[0], dict[str, float]()
    for index, key in enumerate(source.keys):
        image = source.read(index).image
        assert image is not None
        pixels = torch.from_numpy(np.array(image.convert("RGB")))[None]
        best[key] = float(embedder.images({"pixels": pixels})[0] @ asked)
    assert {line[1] for line in lines} == set(sorted(best, key=lambda key: -best[key])[:12])
