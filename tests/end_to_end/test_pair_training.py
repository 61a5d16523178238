"""Students of pairs: a cached teacher teaches as a live one, batches in parts, banks, towers, starts, refusals."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from caches import command, extract, write_teacher
from pairs import write_pairs
from safetensors.torch import load_file
from texts import POSITIONS

from benchmarks.live import LiveDistillation
from distill.config import DistillConfig
from distill.data import CacheData
from distill.holding import open_training
from distill.module import Distillation
from distill.recipe import FOLDER, load_recipe, resolve
from distill.run import build_module, train
from extract.modalities.pair import PairInput
from extract.teachers import load_teacher
from shards.errors import BadInput


def student(encoder: Path, shared: str = "mlp:width=16") -> str:
    text = f"encoder:depth=1,width=16,heads=2,tokens=12,tokenizer={encoder}"
    return f"pair:convnet:width=4,depth=2+{text}+{shared}"


def recipe_of(name: str, **values: Any) -> tuple[DistillConfig, Any]:
    plain = {"init": "random", "precision": "float32", "batch_size": 8, "max_steps": 4, "lr": 0.01}
    config = DistillConfig(shards="", devices="cpu", **{**plain, **values})
    recipe = load_recipe(name)
    terms = [{**term, "bank": 8} if "bank" in term else term for term in recipe.terms or ()]  # as small as the cache
    return config, resolve(replace(recipe, terms=terms), config)


@pytest.mark.parametrize("shared", [pytest.param("mlp:width=16", marks=pytest.mark.slow), "block:width=16,heads=2"])
def test_stored_and_live_teachers_give_the_same_student(
    shared: str, pair_cache: Path, encoder: Path, networks: Path, tmp_path: Path
) -> None:
    states = []
    for name in ("stored", "live"):
        config, recipe = recipe_of("transformer-shre", student=student(encoder, shared))
        teachers = [load_teacher(f"run:{networks}")]
        make: Any = Distillation if name == "stored" else partial(LiveDistillation, teachers=teachers)
        data = CacheData(open_training(str(pair_cache), "logits", False), recipe, 1)
        summary = train(config, recipe, data, tmp_path / name, make)
        assert (summary["teacher_forwards"] > 0) == (name == "live")
        states.append(load_file(tmp_path / name / "student.safetensors"))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def gradients_of(module: Distillation, batch: Any, parts: int) -> dict[str, torch.Tensor]:
    module.recipe = replace(module.recipe, grad_cache=parts)
    module.zero_grad()
    torch.manual_seed(3)
    module.loss(batch).backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    scale = max(gradient.abs().max() for gradient in one.values())
    return float(max((one[name] - other[name]).abs().max() for name in one) / scale)


def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    pair_cache: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, recipe = recipe_of("s-smke", student=student(encoder, "block:width=16,heads=2"))
    data = CacheData(open_training(str(pair_cache), "run-teacher-pooled", False), recipe, 1)
    module = build_module(data, recipe)
    batch = next(iter(data.training_batches()))
    module.eval()  # no dropout, no batch statistics: the parts are as the whole
    assert largest_difference(gradients_of(module, batch, 1), gradients_of(module, batch, 4)) < 1e-5
    module.train()  # and with both: against the same parts, all of them kept in memory
    statistics = {name: rows.clone() for name, rows in module.named_buffers()}
    in_parts = gradients_of(module, batch, 4)
    after = {name: rows.clone() for name, rows in module.named_buffers() if "running" in name}
    assert largest_difference(in_parts, gradients_of(module, batch, 1)) > 1e-3, (
        "dropout or statistics make no difference"
    )
    for name, rows in module.named_buffers():
        rows.copy_(statistics[name])
    monkeypatch.setattr("distill.grad_cache.checkpoint", lambda function, *given, **_: function(*given))
    assert largest_difference(in_parts, gradients_of(module, batch, 4)) < 1e-5
    for name, rows in module.named_buffers():
        if "running" in name:
            torch.testing.assert_close(after[name], rows, msg=f"{name}: the second forward counts as one more")


@pytest.mark.slow
def test_s_smke_with_a_bank_of_the_cache_trains_alike_twice(pair_cache: Path, encoder: Path, tmp_path: Path) -> None:
    common = ("--student", student(encoder), "--init", "random", "--precision", "float32", "--batch_size", "8")
    common = (*common, "--targets", "run-teacher-pooled", "--devices", "cpu", "--lr", "0.01", "--max_steps", "6")
    refused = command("distill", "--shards", pair_cache, "--recipe", "s-smke", *common, "--run_dir", tmp_path / "none")
    refused.refuses("--recipe s-smke: terms: bank 65536", "give at most 16")
    recipe = tmp_path / "small.yaml"
    recipe.write_text((FOLDER / "s-smke.yaml").read_text().replace("65536", "12"))
    states = []
    for name in ("one", "two"):
        flags = ("--recipe", recipe, *common, "--run_dir", tmp_path / name)
        command("distill", "--shards", pair_cache, *flags).succeeds()
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["teacher_forwards"] == 0
        states.append(load_file(tmp_path / name / "student.safetensors"))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_towers_of_the_cache_are_aligned_without_being_loaded(pair_cache: Path, tmp_path: Path) -> None:
    flags = ("--shards", pair_cache, "--recipe", "align", "--student", "align:width=8", "--batch_size", "16")
    length = ("--max_steps", "30", "--devices", "cpu", "--lr", "0.01", "--run_dir", tmp_path / "run")
    towers = ("--targets", "run-teacher-pooled,tiny")
    said = command("distill", *flags, *length, *towers).succeeds()
    assert "the towers agree by a CKA of" in said.out
    refused = command("distill", *flags, *length, "--targets", "run-teacher-pooled")
    refused.refuses("--targets", "of text there are none")


@pytest.mark.slow
def test_what_does_not_fit_is_refused(pair_cache: Path, encoder: Path, pristine: Path, tmp_path: Path) -> None:
    run = ("--run_dir", tmp_path / "run", "--devices", "cpu")
    for name in ("transformer-shre", "s-smke", "shre", "align"):
        of_images = command("distill", "--shards", pristine, "--recipe", name, *run)
        of_images.refuses(f"--recipe {name}", "images with captions", "holds views of image", "--view pair")
    images = ("--shards", pristine, "--student", student(encoder), "--init", "random", "--batch_size", "8")
    command("distill", *images, "--objective", "kl", *run).refuses("its views are image", "the network takes pair")
    flags = ("--shards", pair_cache, "--targets", "logits", "--init", "random", "--batch_size", "8", *run)
    command("distill", *flags, "--student", "pair:convnet:width=4").refuses("expected pair:IMAGE+TEXT")
    cut = student(encoder).replace("tokens=12", "tokens=2")
    command("distill", *flags, "--student", cut).refuses("tokens 2: expected a whole number of at least 3")
    wrong = f"pair:convnet+encoder:tokenizer={tmp_path}/none"
    command("distill", *flags, "--student", wrong).refuses("--student pair:", "tokenizer")
    command("extract", "--data", "digits", "--view", "pair", "--out", tmp_path, "--teacher", "none").refuses("no texts")
    none = ("--data", "digits", "--teacher", "none", "--out", tmp_path)
    command("extract", *none, "--view", "pair:captions=0").refuses("captions: expected 1")
    rows = ("--targets", "tiny", "--batch_size", "8", "--student", student(encoder), "--init", "random", *run)
    recipe = tmp_path / "bank.yaml"
    recipe.write_text((FOLDER / "s-smke.yaml").read_text().replace("65536", "4"))
    command("distill", "--shards", pair_cache, "--recipe", recipe, *rows).refuses("bank", "one row a sample", "(3, 16)")


def test_another_view_of_a_sample_is_no_other_sample(pair_cache: Path, encoder: Path) -> None:
    """A loss that tells samples apart would tell a sample from itself."""
    _, recipe = recipe_of("shre", student=student(encoder), read="views_a_batch=2")
    data = CacheData(open_training(str(pair_cache), "logits", False), recipe, 1)
    with pytest.raises(BadInput, match="--read views_a_batch=2: a loss compares the samples of a batch"):
        build_module(data, recipe)


def test_logits_of_another_width_than_an_output_are_refused(encoder: Path, networks: Path, tmp_path: Path) -> None:
    """A head is as wide as its target; two targets of logits, or a term of another output, may not agree with it."""
    wide = write_teacher(tmp_path / "wide", num_classes=1000)
    data = f"wds:{write_pairs(tmp_path / 'tars', 8)}:captions=caption"
    teachers = ("--teacher", f"run:{networks}=logits,run:{wide}=logits", "--view", "pair:size=16,format=png")
    extract("--data", data, "--out", tmp_path / "cache", *teachers, "--devices", "cpu", "--split", "train")
    flags = ("--shards", tmp_path / "cache", "--batch_size", "8", "--devices", "cpu", "--run_dir", tmp_path / "run")
    flags += ("--init", "random", "--student", student(encoder))
    two = command("distill", *flags, "--recipe", "transformer-shre", "--targets", "run-teacher=0.5,run-wide=0.5")
    two.refuses("--targets: the teachers have [10, 1000] classes", "one set of classes")
    recipe = tmp_path / "shared.yaml"
    recipe.write_text(
        (FOLDER / "transformer-shre.yaml").read_text().replace('image/*, to: "*"', "image/shared_1, to: logits")
    )
    other = command("distill", *flags, "--recipe", recipe, "--targets", "run-wide")
    other.refuses("image/shared_1 (64,)", "the target of image/shared_1 is logits (1000,): give another student")


def test_an_encoder_starts_from_an_earlier_run(pair_cache: Path, encoder: Path, networks: Path) -> None:
    init = f"image=run:{networks},text=hf:{encoder}"
    spec = student(encoder).replace("depth=1,width=16,heads=2,", "depth=1,")
    _, recipe = recipe_of("transformer-shre", student=spec, init=init)
    data = CacheData(open_training(str(pair_cache), "logits", False), recipe, 1)
    state = dict(build_module(data, recipe).student.state_dict())
    earlier = load_file(networks / "student.safetensors")
    taken = [name for name in earlier if not name.startswith("head")]
    assert taken and all(torch.equal(state[f"encoders.image.{name}"], earlier[name]) for name in taken)
    (words,) = (rows for name, rows in state.items() if name.endswith("embeddings.word_embeddings.weight"))
    assert torch.equal(words, load_teacher(f"hf:{encoder}").network.encoder.embeddings.word_embeddings.weight)


def test_captions_are_as_long_as_the_encoder_that_reads_them(pair_cache: Path, encoder: Path, networks: Path) -> None:
    """A start of fewer positions than captions have tokens by default cuts them; asked for more, it is named."""
    init = f"image=run:{networks},text=hf:{encoder}"
    spec = student(encoder).replace("depth=1,width=16,heads=2,tokens=12,", "")
    _, recipe = recipe_of("transformer-shre", student=spec, init=init)
    data = CacheData(open_training(str(pair_cache), "logits", False), recipe, 1)
    inputs = build_module(data, recipe).inputs
    assert isinstance(inputs, PairInput) and inputs.text.size == POSITIONS
    longer = replace(recipe, student=spec.replace("encoder:", f"encoder:tokens={POSITIONS + 1},"))
    with pytest.raises(
        BadInput, match=rf"tokens={POSITIONS + 1}: --init text= has {POSITIONS} positions; give up to that"
    ):
        build_module(data, longer)


def test_a_start_that_is_none_is_refused(
    pair_cache: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (
        "--shards",
        pair_cache,
        "--batch_size",
        "8",
        "--devices",
        "cpu",
        "--run_dir",
        tmp_path / "run",
        "--init",
        "teacher",
    )
    pair = ("--recipe", "transformer-shre", "--targets", "logits", "--student", student(encoder))
    command("distill", *flags, *pair).refuses("--init teacher: expected random, or image=TEACHER")
    # the flag that takes the file is distill's own, which has no --weights
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    offline = command("distill", *flags[:-1], "text=bert", *pair)
    offline.refuses("--init text=bert: ", "out of reach", "give --init text=bert@DIR")
    assert "--weights" not in offline.err
    # a spec may go without any NAME=VALUE, as the README's does
    command("distill", *flags[:-1], "random", *pair[:-1], "pair:convnet+text_conv").refuses(
        "out of reach", "tokenizer=DIR"
    )
    command("distill", *flags, "--recipe", "align", "--targets", "run-teacher-pooled,tiny").refuses("--init teacher")
