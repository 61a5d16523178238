"""Runs of images and texts: what each encoder alone is worth and teaches, and what cannot be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import command, extract
from glue_files import write_glue
from PIL import Image

from distill.recipe import FOLDER
from evaluate.pairs import part_of
from evaluate.student import load_student
from extract.modalities.pair import PairInput
from extract.networks import load_exported
from extract.sources import open_source
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet
from tests.evaluate.pair_bench import CPU, NUM, measured
from tests.pairs import COLOURS, SIDE

pytestmark = pytest.mark.slow


def test_tasks_of_one_modality_measure_its_encoder(pairs: Path, run: Path, tmp_path: Path) -> None:
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


def test_fidelity_is_of_the_part_that_sees_what_the_teacher_saw(pairs: Path, run: Path) -> None:
    flags = ("--run", run, "--task", "fidelity", *CPU)
    command("evaluate", *flags).succeeds()
    record = measured(run)["fidelity"]
    assert "-logits-" in record["targetset"] and 0 <= record["agreement"] <= 1
    command("evaluate", *flags, "--targetset", "bert-pooled").refuses("pooled", "this task needs")
    learned, recipe = run.parent / "texts", run.parent / "without-bank.yaml"
    recipe.write_text((FOLDER / "s-smke.yaml").read_text().replace(", bank: 65536", ""))
    learn = ("--shards", pairs / "cache", "--recipe", recipe, "--devices", "cpu")
    student = f"pair:convnet:width=4,depth=2+encoder:depth=1,width=16,tokenizer={pairs / 'bert'}"
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


def test_a_run_of_pairs_teaches_and_starts_by_its_image_encoder(pairs: Path, run: Path, tmp_path: Path) -> None:
    flags = ("--data", f"wds:{pairs}/data:captions=caption", "--out", tmp_path / "cache", "--devices", "cpu",
             "--split", "validation", "--view", f"resize:size={SIDE},format=png", "--codec", "float32")  # fmt: skip
    extract("--teacher", f"run:{run}", "--target", "pooled,logits", *flags)
    student = load_student(run, "cpu", "float32")
    assert isinstance(student.inputs, PairInput)
    source = open_source(f"wds:{pairs}/data:captions=caption", "validation")
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
    heads = command("extract", "--teacher", f"run:{pairs / 'runs/align'}", *flags)
    heads.refuses("--teacher run:", "the stored rows of two teachers", "give one of these teachers")
    spec = f"pair:convnet:width=4,depth=2+encoder:depth=1,width=8,tokenizer={pairs / 'bert'}"
    learn = ("--shards", pairs / "cache", "--devices", "cpu", "--batch_size", "12", "--precision", "float32")
    learn = (*learn, "--recipe", "transformer-shre", "--targets", "logits", "--student", spec, "--max_steps", "1")
    command("distill", *learn, "--lr", "0", "--init", f"text=run:{run}", "--run_dir", tmp_path / "no").refuses("--lr")
    command("distill", *learn, "--init", f"text=run:{run}", "--run_dir", tmp_path / "no").refuses("image= alone")
    started = ("--lr", "1e-9", "--init", f"image=run:{run}", "--run_dir", tmp_path / "started")
    command("distill", *learn, *started).succeeds()
    states = [dict(load_exported(each)[0].named_parameters()) for each in (run, tmp_path / "started")]
    names = [name for name in states[0] if name.startswith("encoders.image.")]
    assert names and all(torch.allclose(states[0][name], states[1][name], atol=1e-7) for name in names)


def test_what_cannot_be_is_told_in_a_line(pairs: Path, run: Path, tmp_path: Path) -> None:
    flags, cache = ("--run", run, *CPU), pairs / "cache"
    image = Path(shutil.copytree(pairs / "teacher", tmp_path / "image"))
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
    views = ("--split", "validation", "--view", "pair:size=8")
    extract("--teacher", "none", "--data", f"wds:{pairs}/data:captions=caption", "--out", small, *views)
    command("evaluate", *flags, *query, "--shards", small).refuses("(8, 8, 3)", "the network takes (16, 16, 3)")
    command("evaluate", *flags, "--task", "retrieval", "--shards", small).refuses("(8, 8, 3)")
    command("evaluate", *flags, *query, "--task", "knn").refuses("--query only shows")
    command("evaluate", *flags, "--query", " ").refuses("--query: expected words")
    command("evaluate", *query).refuses("--run RUN")
