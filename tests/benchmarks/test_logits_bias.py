"""The figures of `benchmarks.logits_bias`, against draws and brute force, and the forms that logits come in."""

import json
from pathlib import Path

import caches
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.logits_bias import EQUAL, main, table
from shards.codecs import make_codec
from shards.errors import BadInput


@pytest.fixture
def logits(tmp_path: Path) -> Path:
    rows = 3 * torch.randn(64, 200, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "words.npy", rows.numpy())
    save_file({"logits": rows.reshape(4, 16, 200)}, tmp_path / "words.safetensors")
    return tmp_path / "words.npy"


def study_of(out: Path, *flags: object) -> dict:
    main([*map(str, flags), "--out", str(out)])
    study: dict = json.loads((out / "logits_bias.json").read_text())
    return study


def test_the_error_of_a_mean_gradient_is_that_of_draws(logits: Path, tmp_path: Path, capsys) -> None:
    study = study_of(tmp_path / "one", "--logits", logits)
    assert table(study) in capsys.readouterr().out and (tmp_path / "one/logits_bias.svg").stat().st_size > 10_000
    rows = torch.from_numpy(np.load(logits))
    p = rows.double().softmax(-1)
    gradient = (1 / 200 - p).mean(0).norm()
    for name, k in EQUAL.items():
        codec = make_codec(f"{name}:{k}", (200,))
        size, stated = study["means"][codec.name][-1]
        assert size == 64
        mean, _ = codec.estimate(rows)  # type: ignore[attr-defined]
        if name == "topk":
            assert stated == pytest.approx(((mean - p).mean(0).norm() / gradient).item(), rel=1e-9)
            continue
        squares = []
        for seed in range(200):
            numbers = torch.randint(2**63 - 1, (64, 1), generator=torch.Generator().manual_seed(seed))
            stored = codec.with_numbers(numbers).encode(rows)
            counts = stored["counts"].double()
            weights = torch.zeros_like(p).scatter_add(-1, stored["classes"].long(), counts / counts.sum(-1, True))
            squares.append(((weights - p).mean(0).norm() / gradient).square())
        drawn = torch.stack(squares)
        assert stated**2 == pytest.approx(drawn.mean().item(), abs=5 * drawn.std().item() / 200**0.5)
        # one token's error, its mean, is what the codec states
        one = next(row for row in study["codecs"] if row["codec"] == codec.name)
        assert study["means"][codec.name][0][1] ** 2 == pytest.approx(one["gradient_variance"], rel=1e-5)
        assert one["gradient_variance"] <= one["independent_variance"]


@pytest.mark.slow
def test_logits_come_as_arrays_tensors_or_a_target_set(logits: Path, tmp_path: Path, teacher: Path) -> None:
    arrays = study_of(tmp_path / "npy", "--logits", logits)
    tensors = study_of(tmp_path / "tensors", "--logits", logits.with_suffix(".safetensors"))
    assert arrays["codecs"] == tensors["codecs"] and arrays["means"] == tensors["means"]
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *caches.SMALL, "--codec")
    for codec in ("float32", "sample:3"):
        caches.extract(*flags, codec)
    study = study_of(tmp_path / "set", "--logits", caches.targetset_of(tmp_path / "cache", "float32"))
    assert (study["tokens"], study["vocabulary"]) == (caches.NUM_SAMPLES, 10)
    with pytest.raises(BadInput, match="stored as sample:3; give a target set in float32"):
        study_of(tmp_path / "x", "--logits", caches.targetset_of(tmp_path / "cache", "sample3"))
    with pytest.raises(BadInput, match="expected --logits, or --model and --text"):
        study_of(tmp_path / "x")


def test_a_masked_language_model_says_its_own(tmp_path: Path) -> None:
    from transformers import BertConfig, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "barks", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    model = tmp_path / "bert"
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(model)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertConfig(vocab_size=len(words), **sizes).save_pretrained(model)
    (tmp_path / "text.txt").write_text("a dog barks\n" * 100)
    study = study_of(tmp_path / "out", "--model", model, "--text", tmp_path / "text.txt", "--tokens", 200)
    assert (study["tokens"], study["vocabulary"]) == (200, len(words))
    flags = ("--model", model, "--text", tmp_path / "text.txt", "--tokens", 40)
    masked = study_of(tmp_path / "out", *flags, "--masked")
    assert masked["tokens"] == 40 and masked["masked"] and masked["means"] != study["means"]
