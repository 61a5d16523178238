"""What `hf:` says of folders that hold no encoder it can load, and of flags that do not fit."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import caches
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from extract.teachers import load_teacher
from shards.errors import BadInput
from tests.extract.test_hugging_face_teachers import SIZE, TEXT, write_model


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


class Hostile:
    """What a pickle may name: it would run a command when it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("it-was-run",)


def hostile_pickle(folder: Path) -> None:
    without_weights(folder)
    torch.save({"a": Hostile(), "b": torch.zeros(100_000)}, folder / "pytorch_model.bin")


def own_code(folder: Path) -> None:
    configure(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    (folder / "own.py").write_text("import os\nos.mkdir('it-was-run')\n")


def without_final_norm(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["vit.layernorm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"holds no config.json; give a folder"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), r"config.json: cannot be read as JSON"),
    "no object": (lambda folder: (folder / "config.json").write_text("[]"), r"expected a JSON object, found \[\]"),
    "no weights": (without_weights, r"holds no model.safetensors and no pytorch_model.bin; download it again"),
    "truncated": (lambda folder: cut(folder, 90_000), r"cannot load it \(SafetensorError: .*\); download it again"),
    "almost nothing": (lambda folder: cut(folder, 99), r"asks for [\d,]+ parameters, its weights have 99 bytes"),
    "a tensor less": (without_final_norm, r"missing layernorm.weight, mis-shaped none; download it again"),
    "deeper": (
        lambda folder: configure(folder, num_hidden_layers=4),
        r"missing layers.3.attention\S+, .* and 13 more, mis-shaped none",
    ),
    "wider": (
        lambda folder: configure(folder, intermediate_size=50),
        r"missing none, mis-shaped layers.0.mlp.fc1.bias, .* and 6 more",
    ),
    "too deep": (lambda folder: configure(folder, num_hidden_layers=10**9), r"1000000000 layers, expected 1 to 1024"),
    "no depth": (lambda folder: configure(folder, num_hidden_layers=0), r"0 layers, expected 1 to 1024"),
    "too large": (lambda folder: configure(folder, hidden_size=2**20), r"asks for [\d,]+ parameters"),
    "a wrong type": (lambda folder: configure(folder, hidden_size="wide"), r"`transformers` cannot load it"),
    "unknown": (lambda folder: configure(folder, model_type="nosuch"), r"model type `nosuch`"),
    "quantised": (lambda folder: configure(folder, quantization_config={"quant_method": "x"}), "weights are quantised"),
    "own code": (own_code, r"contains custom code .*; download it again, or give another model"),
    "hostile pickle": (hostile_pickle, r"pickle is damaged or names code, none of which was run; give .* safetensors"),
    "grey": (
        lambda folder: configure(folder, num_channels=1),
        r"mis-shaped embeddings.patch_embeddings.projection.weight;",
    ),
    "processor": (lambda folder: (folder / "preprocessor_config.json").write_text("{"), "not a valid JSON file"),
    "two channels": (
        lambda folder: transformers.ViTImageProcessor(size=SIZE, image_mean=[0.5, 0.5]).save_pretrained(folder),
        r"image processor is not for 3 channels \(.0.5, 0.5.\)",
    ),
    "huge": (
        lambda folder: transformers.ViTImageProcessor(size=10**6).save_pretrained(folder),
        r"no square image size of at most 4096 pixels; give --image_size",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_folders_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model")
    change, message = BAD[kind]
    change(tmp_path / "model")
    outcome = caches.command("extract", "--teacher", "hf:model", "--out", "cache", "--data", "digits")
    outcome.refuses("model")
    assert re.search(message, outcome.err)
    assert not (tmp_path / "it-was-run").exists()


def bert() -> transformers.PreTrainedModel:
    return transformers.BertModel(transformers.BertConfig(**TEXT))


def whisper() -> transformers.PreTrainedModel:
    tiny = {f"{part}_{name}": 1 for part in ("encoder", "decoder") for name in ("layers", "attention_heads", "ffn_dim")}
    tokens = {"vocab_size": 9, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return transformers.WhisperModel(transformers.WhisperConfig(d_model=4, **tiny, **tokens))


def swin() -> transformers.PreTrainedModel:
    sizes = {"image_size": SIZE, "patch_size": 4, "embed_dim": 8, "window_size": 4}
    return transformers.SwinModel(transformers.SwinConfig(**sizes, depths=[1, 1], num_heads=[1, 1]))


def convnext() -> transformers.PreTrainedModel:
    return transformers.ConvNextModel(
        transformers.ConvNextConfig(hidden_sizes=[4] * 4, depths=[1] * 4, image_size=SIZE)
    )


OTHERS = {
    "bert": (bert, r"holds no tokenizer: put the model's tokenizer.json beside its weights"),
    "whisper": (whisper, r"expected an encoder of images or texts, found a whisper, an encoder with a decoder"),
    "swin": (swin, r"type swin: expected 0 extra tokens and 64 patches in every block, found \(1, 16, 16\)"),
    "convnext": (convnext, r"type convnext: expected 0 extra .*; give an encoder that keeps one row a patch \(ViT,"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_networks_are_refused(tmp_path: Path, kind: str) -> None:
    make, message = OTHERS[kind]
    make().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=message):
        load_teacher(f"hf:{tmp_path}")


def test_flags_that_do_not_fit(tmp_path: Path) -> None:
    write_model(tmp_path)
    with pytest.raises(BadInput, match=r"--weights x.pth: hf:\S+ brings its own weights; drop --weights"):
        load_teacher(f"hf:{tmp_path}", weights="x.pth")
    with pytest.raises(BadInput, match=r"takes no images of 4 pixels \(.*\); try 32 pixels"):
        load_teacher(f"hf:{tmp_path}", image_size=4)
    with pytest.raises(BadInput, match="hf: names no model; give --teacher hf:ORG/NAME"):
        load_teacher("hf:")
    with pytest.raises(BadInput, match=r"'/no/such/folder' is no folder here and no name on the hub"):
        load_teacher("hf:/no/such/folder")
    with pytest.raises(
        BadInput, match=r"--weights FILE:key=ema: the file holds one set, of the parts classifier, vit;"
    ):
        load_teacher(f"hf:{tmp_path}", weights_key="ema")
