"""Networks of `timm` as teachers: random ones written as their users write them, against timm's own forward."""

import argparse
import re
from pathlib import Path
from typing import Any

import caches
import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from timm.models import save_for_hf
from torch import Tensor, nn

from extract.modalities.crop import render
from extract.networks.outputs import LayerMean, layer_mean
from extract.teachers import load_teacher
from extract.teachers.base import sha256_of_state
from shards.errors import BadInput
from shards.reader import TargetSet

SIZE = 48
EPSILON = torch.finfo(torch.float32).eps


def network(name: str = "test_vit", seed: int = 3, **arguments: Any) -> nn.Module:
    """Random in every tensor: some are made as zeros or ones, which would hide a mistake."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **{"num_classes": 5} | arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
    return model


def write(path: Path, model: nn.Module) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def images(size: int = SIZE) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(7))


# their extra tokens, whether CLS is one, and arguments that make them small; None where blocks keep no token a patch
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
NETWORKS: dict[str, tuple[tuple[int, bool] | None, dict[str, Any]]] = {
    "test_resnet": (None, {}),
    "test_efficientnet": (None, {}),
    "test_convnext": (None, {}),
    "test_vit": ((1, True), {"img_size": SIZE}),
    "test_vit3": ((1, False), {"img_size": SIZE}),
    "deit_tiny_distilled_patch16_224": ((2, True), {"img_size": SIZE} | SMALL),
    "vit_small_patch14_reg4_dinov2": ((5, True), {"img_size": 56} | SMALL),
    "vit_base_patch16_siglip_224": ((0, False), {"img_size": SIZE} | SMALL),
    "beit_base_patch16_224": ((1, True), {"img_size": SIZE} | SMALL),
    "test_vit_relpos": ((0, False), {"img_size": SIZE}),
    "gmlp_ti16_224": ((0, False), {"img_size": 64}),
}


def hub_folder(folder: Path, model: nn.Module, arguments: dict[str, Any], **values: Any) -> Path:
    """The folder as timm pushes it to the hub."""
    save_for_hf(model, folder, model_config=values, model_args=arguments, safe_serialization=True)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_timms_own(tmp_path: Path, name: str) -> None:
    tokens, arguments = NETWORKS[name]
    model = network(name, **arguments)
    size = arguments.get("img_size", SIZE)
    teacher = load_teacher(f"timm:{hub_folder(tmp_path, model, arguments)}", image_size=size)
    blocks: list[Tensor] = []
    for block in model.blocks if tokens else []:
        block.register_forward_hook(lambda _, inputs, output: blocks.append(output))
    with torch.no_grad():
        logits, features = model(images(size)), model.forward_features(images(size))
        found = teacher.network(images(size))
        assert torch.equal(found["logits"], logits)
        assert torch.equal(found["pooled"], model.forward_head(features, pre_logits=True))
    if tokens is None:
        assert teacher.outputs.keys() == {"logits", "pooled"} and not teacher.extra_tokens
        return
    num_extra, has_cls = tokens
    depth = len(model.blocks)
    assert teacher.settings == {"depth": depth} and teacher.extra_tokens["tokens"] == num_extra
    assert torch.equal(found["tokens"], features)
    assert ("cls" in found) == has_cls and (not has_cls or torch.equal(found["cls"], features[:, 0]))
    blocks = blocks[:depth]
    for block in range(depth):
        assert torch.equal(found[f"layer_{block + 1}"], layer_mean([blocks[block]], LayerMean()))
    assert torch.equal(found["layer_mean"], layer_mean(blocks, LayerMean()))
    if num_extra:
        assert torch.equal(found["layer_mean_no_cls"], layer_mean([b[:, num_extra:] for b in blocks], LayerMean()))


def test_pixels_are_fed_as_timm_feeds_them(tmp_path: Path) -> None:
    """A square photo, of which timm's evaluation cuts nothing off: its resize and its normalisation are ours."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (210, 210, 3), dtype=np.uint8))
    for name in ("test_vit", "test_efficientnet"):
        inputs = load_teacher(f"timm:{name}", str(write(tmp_path / "weights.safetensors", network(name)))).inputs
        data = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        assert (inputs.image_size, inputs.mean, inputs.std) == (data["input_size"][1], data["mean"], data["std"])
        expected = create_transform(**data | {"crop_pct": 1.0})(photo)
        pixels = torch.from_numpy(render(photo, (0, 0, *photo.size), False, inputs.image_size, data["interpolation"]))
        (found,) = inputs.prepare({"pixels": pixels[None]}).values()
        # x / 255, minus mean, over std: three roundings there and three here, of numbers up to 1 / std
        bound = 6 * EPSILON / min(inputs.std)
        torch.testing.assert_close(found[0], expected, rtol=0, atol=bound)
        assert expected.abs().max() > 1000 * bound


def test_a_folder_of_the_hub_tells_all_about_its_network(tmp_path: Path) -> None:
    arguments = {"global_pool": "avg", "img_size": SIZE}
    model = network(**arguments)
    cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, SIZE, SIZE], "fixed_input_size": True}
    values = {"label_names": list("abcde"), "pretrained_cfg": cfg}
    folder = hub_folder(tmp_path / "My Model", model, arguments, **values)
    teacher = load_teacher(f"timm:{folder}")
    assert (teacher.name, teacher.class_names) == ("timm-my-model", tuple("abcde"))
    assert (teacher.inputs.image_size, teacher.inputs.mean) == (SIZE, (0.1, 0.2, 0.3))
    assert teacher.inputs.std == (0.4, 0.5, 0.6)
    with torch.no_grad():
        assert torch.equal(teacher.network(images())["logits"], model(images()))
    # averaged tokens and CLS are other networks of the same weights' names
    assert re.fullmatch("timm/test_vit/[0-9a-f]{16}", teacher.architecture)
    plain = load_teacher("timm:test_vit", str(write(tmp_path / "plain.safetensors", network())), SIZE)
    assert plain.architecture == "timm/test_vit" and plain.name == "timm-test_vit"
    with pytest.raises(BadInput, match="brings its own weights; drop --weights"):
        load_teacher(f"timm:{folder}", str(folder / "model.safetensors"))


def test_another_size_has_the_positions_that_timm_gives_it(tmp_path: Path) -> None:
    for name in ("test_vit", "vit_tiny_patch16_224", "beit_base_patch16_224"):
        arguments = {} if name == "test_vit" else SMALL
        folder = hub_folder(tmp_path / name, network(name, **arguments), arguments)
        theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, img_size=SIZE).eval()
        teacher = load_teacher(f"timm:{folder}", image_size=SIZE)
        with torch.no_grad():
            assert torch.equal(teacher.network(images())["logits"], theirs(images()))
        whole = load_teacher(f"timm:{folder}")
        assert whole.weights_sha256 == teacher.weights_sha256 and whole.inputs != teacher.inputs


def test_files_of_every_kind_hold_the_same_network(tmp_path: Path) -> None:
    model, average = network("test_resnet"), network("test_resnet", seed=4)
    state, ema = model.state_dict(), average.state_dict()
    write(tmp_path / "plain.safetensors", model)
    torch.save(state, tmp_path / "plain.pth")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "parallel.bin")
    trainer = {"state_dict": state, "state_dict_ema": ema, "args": argparse.Namespace(model="test_resnet"), "epoch": 3}
    torch.save(trainer, tmp_path / "checkpoint.pth.tar")  # as timm's train.py
    teachers = [load_teacher("timm:test_resnet", str(path), SIZE) for path in sorted(tmp_path.iterdir())]
    assert {teacher.weights_sha256 for teacher in teachers} == {sha256_of_state(state)}
    averaged = load_teacher("timm:test_resnet", str(tmp_path / "checkpoint.pth.tar"), SIZE, "ema")
    assert averaged.weights_sha256 == sha256_of_state(ema)
    with torch.no_grad():
        assert torch.equal(averaged.network(images())["logits"], average(images()))
        for teacher in teachers:
            assert torch.equal(teacher.network(images())["logits"], model(images()))


def test_the_head_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for num_classes in (0, 3, 1000):
        write(path, network(num_classes=num_classes, img_size=SIZE))
        teacher = load_teacher("timm:test_vit.r160_in1k", str(path), SIZE)
        assert teacher.outputs.get("logits") == ((num_classes,) if num_classes else None)
        assert teacher.name == "timm-test_vit.r160_in1k" and teacher.architecture == "timm/test_vit"
        assert teacher.class_names == (tuple(ImageNetInfo().label_descriptions()) if num_classes == 1000 else None)
    assert teacher.class_names[:2] == ("tench, Tinca tinca", "goldfish, Carassius auratus")


def test_a_network_whose_names_all_begin_alike(tmp_path: Path) -> None:
    arguments = {"num_classes": 0, "embed_dim": 32, "depth": 1, "num_heads": 1}
    model = network("qwen3_vit_88m", **arguments)
    teacher = load_teacher(f"timm:{hub_folder(tmp_path, model, arguments)}", image_size=64)
    with torch.no_grad():
        assert torch.equal(teacher.network(images(64))["pooled"], model(images(64)))


def test_the_hubs_cache_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--timm--test_resnet.r160_in1k"
    (repository / "snapshots/a").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("a")
    model = network("test_resnet")
    hub_folder(repository / "snapshots/a", model, {}, label_names=list("abcde"))
    for spec, names in (("timm:test_resnet", None), ("timm:timm/test_resnet.r160_in1k", tuple("abcde"))):
        teacher = load_teacher(spec)
        assert teacher.weights_sha256 == sha256_of_state(model.state_dict()) and teacher.class_names == names


def test_extract_keeps_logits_with_their_names_and_tokens_with_their_depth(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "model", network(img_size=SIZE), {"img_size": SIZE}, label_names=list("abcde"))
    flags = ("--data", "digits", "--limit", "5", "--devices", "cpu", "--target", "logits,cls,layer_mean")
    how = ("--view", f"size={SIZE}", "--codec", "float32")
    caches.extract("--teacher", f"timm:{folder}", "--out", tmp_path / "cache", *flags, *how)
    logits, tokens = (TargetSet(caches.targetset_of(tmp_path / "cache", name)) for name in ("logits", "layer_mean"))
    assert logits.manifest.class_names == list("abcde") and logits.manifest.teacher == "timm-model"
    assert (tokens.row_shape, tokens.manifest.teacher_settings) == ((10, 64), {"depth": 6})
    verified = caches.command("shards", "verify", tmp_path / "cache", "--recompute", "3")
    assert "least cosine 1" in verified.succeeds().out
