"""A CLIP's two towers go into a cache of pairs, a student learns both by `clip-kd`, and retrieval measures it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from caches import Outcome, command, copied, extract, targetset_of, viewset_of
from clips import SIZE, WIDTH, write_clip
from pairs import picture, write_pairs
from texts import write_encoder

from distill.recipe import FOLDER
from extract.networks import load_exported
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet, ViewSet

pytestmark = pytest.mark.slow
NUM, CAPTIONS = 24, 3


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "clip"
    write_clip(folder, projection_dim=WIDTH)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def cache(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both splits with the embeddings of images and captions; no test writes to it."""
    data = write_pairs(tmp_path_factory.mktemp("pairs") / "tars", NUM)
    cache = tmp_path_factory.mktemp("pair") / "cache"
    for split in ("train", "validation"):
        flags = ("--data", f"wds:{data}:captions=caption", "--out", cache, "--split", split, "--devices", "cpu")
        small = ("--view", f"pair:size={SIZE},format=png", "--shard_size", "16", "--batch_size", "8")
        for spec, target in ((f"hf:{clip}", "image_embeds"), (f"hf:{clip}:text", "text_embeds")):
            extract("--teacher", spec, "--target", target, "--codec", "float32", *flags, *small)
    return cache


def student(encoder: Path, shared: str = "none:width=16") -> str:
    return f"pair:convnet:width=4,depth=2+encoder:depth=1,width=16,heads=2,tokens=12,tokenizer={encoder}+{shared}"


def distil(cache: Path, run: Path, encoder: Path, *more: str | Path) -> Outcome:
    flags = ("--student", student(encoder), "--precision", "float32", "--batch_size", "8", "--lr", "0.01")
    return command("distill", "--shards", cache, "--run_dir", run, *flags, "--devices", "cpu", *more)


def test_the_cache_has_a_row_an_image_and_a_row_a_caption(cache: Path, clip: Path) -> None:
    image, text = (TargetSet(targetset_of(cache, name)) for name in ("image_embeds", "text_embeds"))
    assert image.row_shape == (WIDTH,) and text.row_shape == (CAPTIONS, WIDTH)
    rows = read_decoded(text, codec_of(text), 0, np.arange(NUM))
    captions = [len(picture(int(key[-5:]))[1]) for key in ViewSet(viewset_of(cache)).plan.keys]
    assert [int(each.any(1).sum()) for each in rows] == captions
    command("shards", "verify", cache, "--recompute", "6").succeeds()


@pytest.mark.slow
def test_a_student_learns_both_towers_and_retrieves(cache: Path, encoder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = distil(cache, run, encoder, "--recipe", "clip-kd", "--max_steps", "40").succeeds()
    assert "hf-clip-image_embeds" in done.out and "hf-clip-text_embeds" in done.out
    distil(cache, tmp_path / "first", encoder, "--recipe", "clip-kd", "--max_steps", "1").succeeds()
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("first", "run")]
    assert summaries[1]["best_val_loss"] < summaries[0]["best_val_loss"] / 2
    assert summaries[1]["teacher_forwards"] == 0
    network, _ = load_exported(run)
    assert [name for name in network.names if "head" in name or "embeds" in name] == [
        *("image/head", "image/image_embeds", "text/head", "text/text_embeds"),
    ]
    command("evaluate", "--run", run, "--task", "retrieval", "--shards", cache, "--split", "validation").succeeds()
    measured = json.loads((run / "evaluation.json").read_text())["retrieval"]
    assert measured["output"] == "head" and measured["num_samples"] == NUM
    fidelity = ("--task", "fidelity", "--targetset", "text_embeds", "--split", "validation")
    said = command("evaluate", "--run", run, *fidelity).succeeds()
    assert "cosine" in said.out


def test_the_cache_alone_picks_the_recipe(cache: Path, encoder: Path, tmp_path: Path) -> None:
    for number, more in enumerate(((), ("--targets", "image_embeds,text_embeds"))):
        done = distil(cache, tmp_path / f"{number}", encoder, "--max_steps", "1", *more).succeeds()
        assert "distill: clip-kd: pair:" in done.out


@pytest.mark.parametrize(
    "missing", ["text_embeds", *(pytest.param(name, marks=pytest.mark.slow) for name in ("image_embeds", "both"))]
)
def test_a_cache_without_a_tower_says_what_extracts_it(
    missing: str, cache: Path, clip: Path, encoder: Path, tmp_path: Path
) -> None:
    lacking = copied(cache, tmp_path / "lacking")
    names = ("image_embeds", "text_embeds") if missing == "both" else (missing,)
    command("shards", "remove", "--yes", *(targetset_of(lacking, name) for name in names)).succeeds()
    refused = distil(lacking, tmp_path / "run", encoder, "--recipe", "clip-kd")
    spec = "hf:CLIP" if missing == "both" else f"hf:{clip}"
    specs = {"image_embeds": spec, "text_embeds": f"{spec}:text"}
    commands = [f"python -m extract --teacher {specs[name]} --target {name} --out {lacking}" for name in names]
    refused.refuses("--recipe clip-kd: learns image_embeds and text_embeds", *commands)
    if missing != "both":  # what it says does it
        words = refused.err.partition("python -m extract ")[2].partition(" adds it")[0].split()
        extract(*words, "--devices", "cpu")
        distil(lacking, tmp_path / "run", encoder, "--recipe", "clip-kd", "--max_steps", "1").succeeds()


@pytest.mark.slow
def test_targets_of_one_name_are_told_apart_by_what_their_teachers_see(
    cache: Path, clip: Path, encoder: Path, tmp_path: Path
) -> None:
    both = copied(cache, tmp_path / "both")
    request = json.loads((viewset_of(both) / "plan.json").read_text())["request"]
    flags = ("--target", "pooled", "--codec", "float32", "--out", both, "--data", request["data"], "--devices", "cpu")
    extract("--teacher", f"hf:{clip}", *flags)
    extract("--teacher", f"hf:{encoder}", *flags)
    recipe: dict[str, Any] = yaml.safe_load((FOLDER / "clip-kd.yaml").read_text())
    recipe["terms"] = [
        {"loss": "mse", "of": "image/pooled", "to": "image/pooled"},
        {"loss": "mse", "of": "text/pooled", "to": "text/pooled"},
    ]
    (tmp_path / "pooled.yaml").write_text(yaml.safe_dump(recipe))
    done = distil(both, tmp_path / "run", encoder, "--recipe", tmp_path / "pooled.yaml", "--max_steps", "2").succeeds()
    assert "hf-clip-pooled" in done.out and "hf-tiny-pooled" in done.out
    named = ("--targets", "hf-clip-pooled,hf-tiny-pooled")
    again = ("--recipe", tmp_path / "pooled.yaml", "--max_steps", "2", *named)
    distil(both, tmp_path / "named", encoder, *again).succeeds()
    states = [load_exported(tmp_path / name)[0].state_dict() for name in ("run", "named")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    command(
        "shards", "remove", "--yes", *(targetset_of(both, f"{each}_embeds") for each in ("image", "text"))
    ).succeeds()
    # no recipe is for these two, and none is taken to be for neither of them
    distil(both, tmp_path / "none", encoder).refuses("--targets", "hf-clip-pooled", "hf-tiny-pooled")
