"""Runs of images and texts by their commands: retrieval, zero-shot, a query's picture, and each encoder alone."""

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
from caches import command, extract, write_teacher
from glue_files import write_glue
from PIL import Image
from torch import Tensor, nn

from distill.recipe import FOLDER
from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.pairs import Embedder, part_of
from evaluate.preset import resolve
from evaluate.student import TrainedStudent, load_student
from evaluate.tasks import retrieval, zeroshot
from extract.modalities.base import feed
from extract.modalities.image import ImageInput
from extract.modalities.pair import PairInput
from extract.modalities.text import TextInput
from extract.networks import load_exported
from extract.networks.pair import PairNetwork
from extract.sources import open_source
from extract.teachers import load_teacher
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet
from tests.pairs import COLOURS, SHAPES, SIDE, write_pairs
from tests.texts import WORDS, write_encoder

CPU = ("--device", "cpu", "--num_workers", "2")
NUM = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, a cache of both splits with rows of two teachers, a student of pairs, and heads on the two towers."""
    root = tmp_path_factory.mktemp("pairs")
    write_pairs(root / "data", NUM)
    words = [*WORDS, *COLOURS, *SHAPES, "number", *"0123456789", *(f"##{digit}" for digit in range(10))]
    write_encoder(root / "bert", words=list(dict.fromkeys(words)))
    write_teacher(root / "teacher")
    flags = ("--data", f"wds:{root}/data:captions=caption", "--out", root / "cache", "--devices", "cpu")
    for split in ("train", "validation"):
        extract("--teacher", f"run:{root / 'teacher'}", "--target", "logits,pooled", *flags, "--split", split,
                "--view", f"pair:captions=3,size={SIDE},format=png")  # fmt: skip
        extract("--teacher", f"hf:{root / 'bert'}", "--target", "pooled", *flags, "--split", split)
    student = f"pair:convnet:width=4,depth=2+encoder:depth=1,width=16,tokenizer={root / 'bert'}+block:width=16"
    learn = ("--shards", root / "cache", "--devices", "cpu", "--batch_size", "12", "--precision", "float32")
    pair = ("--recipe", "transformer-shre", "--targets", "logits", "--student", student, "--init", "random")
    command("distill", *learn, *pair, "--max_steps", "4", "--run_dir", root / "runs/pair").succeeds()
    rows = (
        "--recipe",
        "align",
        "--targets",
        "bert-pooled,teacher-pooled",
        "--student",
        "align:width=32",
        "--lr",
        "0.003",
    )
    command("distill", *learn, *rows, "--max_steps", "150", "--run_dir", root / "runs/align").succeeds()
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "runs/pair", tmp_path / "pair"))


def measured(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_bytes())


class Looked(nn.Module):
    """An encoder that knows its inputs: one row of a table each."""

    def __init__(self, table: Tensor, number: Any) -> None:
        super().__init__()
        self.table, self.number = table, number

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {"pooled": self.table[self.number(*inputs)]}


def oracle(made: Path, folder: Path, table: Tensor, of_texts: Tensor, **flags: Any) -> Evaluation:
    """A student that tells a colour by the first pixel, and its word as a caption's first; a table has a row each."""
    teacher = load_teacher(f"hf:{made / 'bert'}", None, None)
    tokenizer = teacher.inputs.tokenizer  # type: ignore[attr-defined]
    first = torch.tensor([int(tokenizer.ids([colour])[0][0]) for colour in COLOURS])
    colours = torch.tensor(list(COLOURS.values())) / 255
    encoders = {
        "image": Looked(table, lambda images: torch.cdist(images[:, :, 0, 0], colours).argmin(1)),
        "text": Looked(of_texts, lambda ids, mask: (ids[:, 1, None] == first).int().argmax(1)),
    }
    torch.manual_seed(0)
    width = table.shape[1]
    shared = {"kind": "mlp", "width": width, "hidden": 4 * width, "heads": 1}
    network = PairNetwork(encoders, {"image": width, "text": width}, shared, {}).eval()
    inputs = PairInput(ImageInput(SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), TextInput.of(16, tokenizer))
    student = TrainedStudent(network, inputs, None, None, torch.device("cpu"), torch.float32)
    return Evaluation(EvaluateConfig(num_workers=2, batch_size=3, **flags), folder, student, "ab" * 32, folder)


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


def test_an_oracle_finds_everything_and_a_constant_nothing(made: Path, colours: Path, tmp_path: Path) -> None:
    table = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    data = {"data": f"wds:{colours}/validation.tar:captions=caption"}
    record = retrieval.measure(oracle(made, tmp_path, table, table, **data), settings_of(retrieval))
    assert {record[f"{way}_{name}"] for way in ("i2t", "t2i") for name in ("r1", "r10", "median_rank")} == {1.0}
    assert record["samples"] == {"i2t": 4, "t2i": 1 + 2 + 3 + 1} and record["output"] == "shared_2"
    assert record["chance"]["t2i_r1"] == 0.25
    assert record["chance"]["i2t_r1"] == pytest.approx((1 + 2 + 3 + 1) / 7 / 4, abs=1e-6)
    one = retrieval.measure(oracle(made, tmp_path, table, table, **data), settings_of(retrieval, captions=1))
    assert one["samples"] == {"i2t": 4, "t2i": 4} and one["i2t_r1"] == 1
    constant = torch.ones(4, 8)
    record = retrieval.measure(oracle(made, tmp_path, constant, constant, **data), settings_of(retrieval))
    assert record["i2t_r1"] == record["t2i_r1"] == 0 and record["t2i_median_rank"] == 4
    swapped = oracle(made, tmp_path, table, table[[1, 0, 2, 3]], **data)
    assert retrieval.measure(swapped, settings_of(retrieval))["t2i_r1"] == pytest.approx((3 + 1) / 7, abs=1e-6)


def test_zeroshot_by_an_oracle(made: Path, colours: Path, tmp_path: Path) -> None:
    table = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "own.txt").write_text("# mine\n\n{} cat\n{} {}\n")
    changes = {"templates": str(tmp_path / "own.txt")}
    data = {"data": f"folder:{colours / 'classes'}"}
    names = sorted(COLOURS)
    record = zeroshot.measure(oracle(made, tmp_path, table, table, **data), settings_of(zeroshot, **changes))
    assert record["top1"] == 1 and record["chance"] == {"top1": 0.25} and "top5" not in record
    assert record["num_classes"] == 4 and record["num_templates"] == 2 and record["num_samples"] == 4
    blind = torch.ones(4, 8)
    assert zeroshot.measure(oracle(made, tmp_path, blind, blind, **data), settings_of(zeroshot, **changes))["top1"] == 0
    evaluation = oracle(made, tmp_path, table, table, **data)
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


def test_stored_views_give_what_their_source_gives(made: Path, run: Path) -> None:
    flags = ("--run", run, "--task", "retrieval", *CPU)
    out = command("evaluate", *flags, "--batch_size", "7").succeeds().out
    of_source = measured(run)["retrieval"]
    assert of_source["samples"] == {"i2t": NUM, "t2i": 2 * NUM} and of_source["output"] == "head"
    assert "chance" in out.splitlines()[0] and "t2i_median_rank" in out
    command("evaluate", *flags, "--shards", made / "cache").succeeds()
    stored = measured(run)["retrieval"]
    assert stored["data"].startswith("wds-data-validation-")
    alike = {name for name in stored if name[1:3] == "2i" or name[1:3] == "2t"}
    assert len(alike) == 8 and all(stored[name] == of_source[name] for name in alike)
    (kept,) = (record for name, record in measured(run).items() if name.startswith("retrieval on wds:"))
    assert kept == of_source  # what was measured on other data stays
    command(
        "evaluate", *flags, "--shards", made / "cache", "--preset", "retrieval:captions=1,output=shared_1"
    ).succeeds()
    changed = measured(run)["retrieval"]
    assert changed["samples"]["t2i"] == NUM and changed["output"] == "shared_1" and changed["captions"] == 1
    table = command("evaluate", "--runs", run).succeeds().out
    assert "i2t-R@1" in table and "t2i-rank" in table


def test_retrieval_is_what_cosines_of_the_heads_say(made: Path, run: Path) -> None:
    """Against the network fed by hand, a caption at a time."""
    command(
        "evaluate", "--run", run, "--task", "retrieval", *CPU, "--data", f"wds:{made}/data:captions=caption"
    ).succeeds()
    student = load_student(run, "cpu", "float32")
    source = open_source(f"wds:{made}/data:captions=caption", "validation")
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


def test_heads_on_two_towers_retrieve_from_stored_rows(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "runs/align", tmp_path / "align"))
    command("evaluate", "--run", run, "--task", "retrieval", *CPU, "--batch_size", "10").succeeds()
    record, network = measured(run)["retrieval"], load_exported(run)[0].eval()
    assert record["samples"] == {"i2t": NUM, "t2i": 2 * NUM} and record["output"] == "head"
    (viewset,) = (made / "cache").glob("wds-data-validation-*")
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
    bert = load_teacher(f"hf:{made / 'bert'}", None, None)
    ids = bert.inputs.tokenizer.rows([("red cat",)], 8)  # type: ignore[attr-defined]
    fields = {name: torch.from_numpy(rows) for name, rows in ids.items()}
    with torch.no_grad():
        asked = network.text(feed(bert.network, bert.inputs, bert.inputs.cut(fields))["pooled"])  # type: ignore[operator]
    best = (F.normalize(outputs["image/head"]) @ F.normalize(asked)[0]).topk(12)
    lines = [line.split(maxsplit=2) for line in out.splitlines() if line.lstrip(" -")[:1].isdigit()]
    keys = open_source(f"wds:{made}/data:captions=caption", "validation").keys
    assert [line[1] for line in lines] == [keys[place] for place in best.indices.tolist()]
    assert [float(line[0]) for line in lines] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_towers_are_loaded_for_what_is_not_stored(made: Path, colours: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "runs/align", tmp_path / "align"))
    (tmp_path / "own.txt").write_text("{} cat\na small {}\n")
    flags = ("--run", run, *CPU, "--data", f"folder:{colours / 'classes'}")
    command(
        "evaluate", *flags, "--task", "zeroshot", "--preset", f"zeroshot:templates={tmp_path / 'own.txt'}"
    ).succeeds()
    network, names = load_exported(run)[0].eval(), sorted(COLOURS)
    bert, convnet = (load_teacher(f"{spec}:{made / name}") for spec, name in (("hf", "bert"), ("run", "teacher")))
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
        Evaluation(EvaluateConfig(num_workers=2), run, load_student(run, "cpu", "float32"), "", run), ""
    )
    torch.testing.assert_close(embedder.images({"pixels": pixels.expand(4, SIDE, SIDE, 3)}), rows)
    data = ("--data", f"wds:{made}/data:captions=caption")
    command("evaluate", "--run", run, "--task", "retrieval", *CPU, *data).succeeds()
    record = measured(run)["retrieval"]
    assert record["data"] == data[1] and record["samples"] == {"i2t": NUM, "t2i": 2 * NUM}, "no stored rows instead"
    for task in ("knn", "accuracy", "sts"):
        command("evaluate", *flags, "--task", task).refuses("--task", "two heads", "give --task retrieval or zeroshot")
    output = ("--preset", "retrieval:output=shared_1")
    command("evaluate", "--run", run, "--task", "retrieval", *CPU, *data, *output).refuses("shared_1", "gives head")


def test_tasks_of_one_modality_measure_its_encoder(made: Path, run: Path, tmp_path: Path) -> None:
    images = ("--data", "digits", "--limit", "64", "--batch_size", "16", "--epochs", "1")
    tasks = "accuracy,knn,linear,finetune,zeroshot"
    command("evaluate", "--run", run, "--task", tasks, *images, "--k", "5", *CPU).succeeds()
    results = measured(run)
    assert {results[name].get("part") for name in tasks.split(",")} == {"image", None}  # zeroshot needs both
    rows = tmp_path / "texts"
    rows.mkdir()
    for split in ("train", "validation"):
        lines = [{"text": f"{colour} cat", "sort": number % 2} for number, colour in enumerate([*COLOURS] * 8)]
        (rows / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = ("--data", f"text:{rows}:label=sort", "--batch_size", "8", "--epochs", "1")
    command("evaluate", "--run", run, "--task", "knn,text_classification", *texts, "--k", "3", *CPU).succeeds()
    assert measured(run)["knn"]["part"] == measured(run)["text_classification"]["part"] == "text"
    assert measured(run)["knn on digits validation, 64 samples"]["part"] == "image"
    glue = write_glue(tmp_path / "glue", 8, 16)
    command("evaluate", "--run", run, "--task", "sts", "--data_dir", glue, "--data", "glue:stsb", *CPU).succeeds()
    assert measured(run)["sts"]["part"] == "text"


def test_fidelity_is_of_the_part_that_sees_what_the_teacher_saw(made: Path, run: Path) -> None:
    flags = ("--run", run, "--task", "fidelity", *CPU)
    command("evaluate", *flags).succeeds()
    record = measured(run)["fidelity"]
    assert "-logits-" in record["targetset"] and 0 <= record["agreement"] <= 1
    command("evaluate", *flags, "--targetset", "bert-pooled").refuses("pooled", "this task needs")
    learned, recipe = run.parent / "texts", run.parent / "without-bank.yaml"
    recipe.write_text((FOLDER / "s-smke.yaml").read_text().replace(", bank: 65536", ""))
    learn = ("--shards", made / "cache", "--recipe", recipe, "--devices", "cpu")
    student = f"pair:convnet:width=4,depth=2+encoder:depth=1,width=16,tokenizer={made / 'bert'}"
    learn = (*learn, "--targets", "bert-pooled", "--student", student, "--init", "random", "--precision", "float32")
    command("distill", *learn, "--max_steps", "1", "--batch_size", "12", "--run_dir", learned).succeeds()
    command("evaluate", "--run", learned, "--task", "fidelity", *CPU).succeeds()
    record = measured(learned)["fidelity"]
    assert "bert-pooled" in record["targetset"] and -1 <= record["cosine"] <= 1


def test_a_part_gives_what_the_whole_gives(run: Path) -> None:
    student = load_student(run, "cpu", "float32")
    assert isinstance(student.inputs, PairInput)
    fields = student.inputs.example()
    whole = student(fields)
    for modality in ("image", "text"):
        part = part_of(student, modality)
        given = {name: fields[name] for name in (["pixels"] if modality == "image" else ["tokens", "length"])}
        given = dict(part.inputs.cut(given))
        outputs = part(given)
        assert part.num_classes == 10
        for name in ("encoded", "shared_1", "head", "logits"):
            assert torch.equal(outputs[name], whole[f"{modality}/{name}"])
        assert torch.equal(part.only("pooled")(given)["pooled"], whole[f"{modality}/encoded"])
        assert not any("shared" in name for name, _ in part.only("pooled").network.named_parameters())


def test_a_run_of_pairs_teaches_and_starts_by_its_image_encoder(made: Path, run: Path, tmp_path: Path) -> None:
    flags = ("--data", f"wds:{made}/data:captions=caption", "--out", tmp_path / "cache", "--devices", "cpu",
             "--split", "validation", "--view", f"resize:size={SIDE},format=png", "--codec", "float32")  # fmt: skip
    extract("--teacher", f"run:{run}", "--target", "pooled,logits", *flags)
    student = load_student(run, "cpu", "float32")
    assert isinstance(student.inputs, PairInput)
    source = open_source(f"wds:{made}/data:captions=caption", "validation")
    images = [source.read(index).image for index in range(NUM)]
    pixels = torch.stack([torch.from_numpy(np.array(image.convert("RGB"))) for image in images if image is not None])
    whole = student({**{name: rows.expand(NUM, *rows.shape[1:]) for name, rows in student.inputs.example().items()},
                     "pixels": pixels})  # fmt: skip
    (viewset,) = (tmp_path / "cache").iterdir()
    for target, output in (("pooled", "encoded"), ("logits", "logits")):
        (folder,) = (viewset / "targets").glob(f"run-pair-{target}-*")
        targetset = TargetSet(folder)
        decoded = read_decoded(targetset, codec_of(targetset), 0, np.arange(NUM))
        # float32 sums in batches of another size
        torch.testing.assert_close(getattr(decoded, "rows", decoded), whole[f"image/{output}"], rtol=1e-4, atol=1e-5)
    heads = command("extract", "--teacher", f"run:{made / 'runs/align'}", *flags)
    heads.refuses("--teacher run:", "the stored rows of two teachers", "give one of these teachers")
    spec = f"pair:convnet:width=4,depth=2+encoder:depth=1,width=8,tokenizer={made / 'bert'}"
    learn = ("--shards", made / "cache", "--devices", "cpu", "--batch_size", "12", "--precision", "float32")
    learn = (*learn, "--recipe", "transformer-shre", "--targets", "logits", "--student", spec, "--max_steps", "1")
    command("distill", *learn, "--lr", "0", "--init", f"text=run:{run}", "--run_dir", tmp_path / "no").refuses("--lr")
    command("distill", *learn, "--init", f"text=run:{run}", "--run_dir", tmp_path / "no").refuses("image= alone")
    started = ("--lr", "1e-9", "--init", f"image=run:{run}", "--run_dir", tmp_path / "started")
    command("distill", *learn, *started).succeeds()
    states = [dict(load_exported(each)[0].named_parameters()) for each in (run, tmp_path / "started")]
    names = [name for name in states[0] if name.startswith("encoders.image.")]
    assert names and all(torch.allclose(states[0][name], states[1][name], atol=1e-7) for name in names)


def test_a_query_shows_the_nearest_images(made: Path, run: Path) -> None:
    flags = ("--run", run, "--query", "a small cat", *CPU)
    out = command("evaluate", *flags, "--shards", made / "cache").succeeds().out
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
    source = open_source(f"wds:{made}/data:captions=caption", "validation")
    asked, best = embedder.sentences(["a small cat"])[0], dict[str, float]()
    for index, key in enumerate(source.keys):
        image = source.read(index).image
        assert image is not None
        pixels = torch.from_numpy(np.array(image.convert("RGB")))[None]
        best[key] = float(embedder.images({"pixels": pixels})[0] @ asked)
    assert {line[1] for line in lines} == set(sorted(best, key=lambda key: -best[key])[:12])


def test_what_cannot_be_is_told_in_a_line(made: Path, run: Path, tmp_path: Path) -> None:
    flags, cache = ("--run", run, *CPU), made / "cache"
    image = Path(shutil.copytree(made / "teacher", tmp_path / "image"))
    (image / "config.yaml").write_text("")
    for task in ("retrieval", "zeroshot"):
        other = command("evaluate", "--run", image, "--task", task, "--data", "digits", *CPU)
        other.refuses(f"--task {task}", "needs a student of images and texts", "takes images alone")
    query = ("--query", "a cat")
    command("evaluate", "--run", image, *query, "--shards", cache, *CPU).refuses("--query", "takes images alone")
    command("evaluate", *flags, "--task", "retrieval", "--data", "digits").refuses("--data digits", "no texts")
    command("evaluate", *flags, "--task", "retrieval", "--shards", cache, "--split", "train").refuses("augmented")
    command("evaluate", *flags, "--task", "zeroshot").refuses("the samples have no labels")
    for changes, message in {"captions=0": "captions 0", "output=none": "shared_1", "caption=1": "captions"}.items():
        preset = ("--preset", f"retrieval:{changes}")
        command("evaluate", *flags, "--task", "retrieval", *preset).refuses("retrieval", message)
    zero = (*flags, "--task", "zeroshot", "--data", "digits", "--limit", "8")
    command("evaluate", *zero, "--preset", "zeroshot:templates=clip").refuses("templates clip", "cifar, imagenet")
    (tmp_path / "bad.txt").write_text("a photo\n")
    command("evaluate", *zero, "--preset", f"zeroshot:templates={tmp_path / 'bad.txt'}").refuses("'a photo' has no {}")
    wordnet = tmp_path / "wordnet"
    for name in ("n01440764", "n01443537"):
        (wordnet / "validation" / name).mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE)).save(wordnet / "validation" / name / "a.png")
    command("evaluate", *flags, "--task", "zeroshot", "--data", f"folder:{wordnet}").refuses(
        "n01440764", "names in words"
    )
    small = tmp_path / "small"
    extract("--teacher", "none", "--data", f"wds:{made}/data:captions=caption", "--split", "validation", "--out", small,
            "--view", "pair:size=8")  # fmt: skip
    command("evaluate", *flags, *query, "--shards", small).refuses("(8, 8, 3)", "the network takes (16, 16, 3)")
    command("evaluate", *flags, "--task", "retrieval", "--shards", small).refuses("(8, 8, 3)")
    command("evaluate", *flags, *query, "--task", "knn").refuses("--query only shows")
    command("evaluate", *flags, "--query", " ").refuses("--query: expected words")
    command("evaluate", *query).refuses("--run RUN")
