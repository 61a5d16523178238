"""Vision encoders of `transformers`: tiny random ones saved as their users save them, and loaded as teachers."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import caches
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from extract.teachers import load_teacher
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet

SIZE, PATCH, DEPTH, DIM = 32, 8, 3, 32
NUM_PATCHES = (SIZE // PATCH) ** 2
PLAIN = {
    "hidden_size": DIM,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": PATCH,
}
TOWER = {**PLAIN, "intermediate_size": 48}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2}


def contrastive(name: str) -> transformers.PreTrainedModel:
    """CLIP or SigLIP, both towers."""
    config = getattr(transformers, f"{name}Config")(vision_config=dict(TOWER), text_config=dict(TEXT))
    return getattr(transformers, f"{name}Model")(config)


def mae() -> transformers.PreTrainedModel:
    """MAE as it is pre-trained, with its decoder."""
    decoder = {f"decoder_{name}": 16 for name in ("hidden_size", "intermediate_size")}
    decoder |= {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    return transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**TOWER, **decoder))


# each model, the part of it that is the teacher, and its tokens that are no patches
MODELS: dict[str, tuple[Any, Any, int]] = {
    "vit": (lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**TOWER)), lambda m: m.vit, 1),
    "deit": (lambda: transformers.DeiTModel(transformers.DeiTConfig(**TOWER)), lambda m: m, 2),
    "dinov2": (
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**PLAIN, mlp_ratio=2)),
        lambda m: m,
        1,
    ),
    "registers": (
        lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**PLAIN, mlp_ratio=2, num_register_tokens=4)
        ),
        lambda m: m,
        5,
    ),
    "beit": (
        lambda: transformers.BeitModel(transformers.BeitConfig(**TOWER, use_relative_position_bias=True)),
        lambda m: m,
        1,
    ),
    "clip": (lambda: contrastive("CLIP"), lambda m: m.vision_model, 1),
    "clip tower": (lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TOWER)), lambda m: m, 1),
    "siglip": (lambda: contrastive("Siglip"), lambda m: m.vision_model, 0),
    "mae": (mae, lambda m: m.vit, 1),
}


def write_model(folder: Path, kind: str = "vit") -> transformers.PreTrainedModel:
    """The model `kind`, random in every tensor, saved with an image processor; returns the part that is the teacher."""
    torch.manual_seed(len(kind))
    make, part, _ = MODELS[kind]
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some are made as zeros or ones, which would hide a mistake
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return part(model)


def images(size: int = SIZE, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(7))


def naive_mean(layers: list[Tensor]) -> Tensor:
    """Channels last to first and back, PyTorch's own norms, a stack."""
    normed = [F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in layers]
    return F.layer_norm(torch.stack(normed).mean(0), (DIM,))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "mae"])
def test_outputs_are_transformers_own(tmp_path: Path, kind: str) -> None:
    with torch.no_grad():
        expected = write_model(tmp_path, kind)(images(), output_hidden_states=True)
    check_outputs(tmp_path, kind, expected)


def test_mae_sees_every_patch_in_its_place(tmp_path: Path) -> None:
    """A ViT of the same tensors neither masks nor shuffles."""
    part = write_model(tmp_path, "mae")
    vit = transformers.ViTModel(transformers.ViTConfig(**TOWER), add_pooling_layer=False).eval()
    vit.load_state_dict(part.state_dict())
    with torch.no_grad():
        check_outputs(tmp_path, "mae", vit(images(), output_hidden_states=True))


def check_outputs(folder: Path, kind: str, expected: Any) -> None:
    teacher = load_teacher(f"hf:{folder}")
    found, num_extra, tokens = teacher.network(images()), MODELS[kind][2], expected.last_hidden_state
    layers = list(expected.hidden_states[1:])
    assert tokens.shape == (2, num_extra + NUM_PATCHES, DIM)
    close(found["tokens"], tokens)
    close(found["pooled"], tokens[:, num_extra:].mean(1))
    close(found["layer_mean"], naive_mean(layers))
    for block, layer in enumerate(layers, start=1):
        close(found[f"layer_{block}"], naive_mean([layer]))
    assert ("cls" in found) == ("layer_mean_no_cls" in found) == (num_extra > 0)
    if num_extra:
        close(found["cls"], tokens[:, 0])
        close(found["layer_mean_no_cls"], naive_mean([layer[:, num_extra:] for layer in layers]))
    of_layers = {f"layer_{block}": num_extra for block in range(1, DEPTH + 1)}
    without = {"layer_mean_no_cls": 0} if num_extra else {}
    dense = dict.fromkeys(("tokens", "layer_mean", "layer_mean_no_norm"), num_extra)
    assert teacher.extra_tokens == {**dense, **without, **of_layers}
    assert teacher.outputs == {name: tuple(rows.shape[1:]) for name, rows in found.items()}


def test_only_computes_the_same_and_keeps_no_layers_that_nobody_asked_for(tmp_path: Path) -> None:
    write_model(tmp_path)
    teacher = load_teacher(f"hf:{tmp_path}")
    everything = teacher.network(images())
    asked: list[bool] = []
    encoder = teacher.network.get_submodule("network")
    encoder.register_forward_pre_hook(
        lambda _, inputs, options: asked.append(options["output_hidden_states"]), with_kwargs=True
    )
    for names, with_layers in ((["tokens", "cls"], False), (["pooled", "layer_2"], True), (["layer_mean"], True)):
        found = teacher.only(names).network(images())
        assert sorted(found) == sorted(names)
        assert all(torch.equal(found[name], everything[name]) for name in names)
        assert asked.pop() == with_layers
    assert set(teacher.network(images())) == set(everything)


PROCESSORS = {
    "shortest edge and crop": transformers.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=SIZE),
    "height and width": transformers.ViTImageProcessor(size={"height": SIZE, "width": SIZE}),
    "no crop": transformers.BeitImageProcessor(size=SIZE, crop_size=24, do_center_crop=False),
    "own mean": transformers.BitImageProcessor(crop_size=SIZE, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]),
    "no rescaling": transformers.ViTImageProcessor(
        size=SIZE, do_rescale=False, image_mean=[128.0] * 3, image_std=[64.0] * 3
    ),
    "to [0, 2]": transformers.ViTImageProcessor(size=SIZE, rescale_factor=2 / 255),
    "no normalisation": transformers.ViTImageProcessor(size=SIZE, do_normalize=False),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_preprocessing_is_the_image_processors(tmp_path: Path, kind: str) -> None:
    write_model(tmp_path)
    PROCESSORS[kind].save_pretrained(tmp_path)
    ours = load_teacher(f"hf:{tmp_path}").inputs
    assert ours.image_size == SIZE
    pixels = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    theirs = PROCESSORS[kind](pixels, return_tensors="pt", do_resize=False, do_center_crop=False)["pixel_values"][0]
    mean, std = (torch.tensor(values)[:, None, None] for values in (ours.mean, ours.std))
    close((pixels / 255 - mean) / std, theirs)


def test_an_old_processor_file_is_understood(tmp_path: Path) -> None:
    write_model(tmp_path)
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": SIZE, "do_center_crop": True}
    old |= {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    preprocessing = load_teacher(f"hf:{tmp_path}").inputs
    assert (preprocessing.image_size, preprocessing.mean, preprocessing.std) == (SIZE, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_without_a_processor_imagenets_values_are_taken_aloud(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_model(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    capsys.readouterr()
    preprocessing = load_teacher(f"hf:{tmp_path}").inputs
    assert (preprocessing.image_size, preprocessing.mean) == (SIZE, (0.485, 0.456, 0.406))
    assert re.fullmatch(
        r"extract: \S+ \S+: no preprocessor_config.json: taking images of 32 pixels, ImageNet's mean and std\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [("vit", {"interpolate_pos_encoding": True}), ("clip", {"interpolate_pos_encoding": True}), ("registers", {})],
)
def test_another_image_size_interpolates_the_positions(tmp_path: Path, kind: str, options: dict[str, bool]) -> None:
    part = write_model(tmp_path, kind)
    teacher = load_teacher(f"hf:{tmp_path}", image_size=48)
    assert teacher.outputs["tokens"] == (MODELS[kind][2] + 36, DIM)
    with torch.no_grad():
        close(teacher.network(images(48))["tokens"], part(images(48), **options).last_hidden_state)


def test_identity_is_of_what_is_computed_with(tmp_path: Path) -> None:
    write_model(tmp_path / "Plain Model")
    plain = load_teacher(f"hf:{tmp_path / 'Plain Model'}")
    assert (plain.name, plain.class_names) == ("hf-plain-model", None)
    assert re.fullmatch(r"hf/vit/[0-9a-f]{16}", plain.architecture)

    def changed(name: str, **values: Any) -> Any:
        folder = Path(shutil.copytree(tmp_path / "Plain Model", tmp_path / name))
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        return load_teacher(f"hf:{folder}")

    relabelled = changed("labels", id2label={"0": "cat", "1": "dog"}, transformers_version="5.0.0", dtype="float16")
    assert (relabelled.architecture, relabelled.weights_sha256) == (plain.architecture, plain.weights_sha256)
    assert changed("eps", layer_norm_eps=1e-3).architecture != plain.architecture
    state = load_file(tmp_path / "Plain Model" / "model.safetensors")
    pickled = Path(shutil.copytree(tmp_path / "Plain Model", tmp_path / "pickled"))
    (pickled / "model.safetensors").unlink()
    torch.save(state, pickled / "pytorch_model.bin")
    assert load_teacher(f"hf:{pickled}").weights_sha256 == plain.weights_sha256
    state["vit.layernorm.bias"] += 1e-3
    save_file(state, tmp_path / "labels" / "model.safetensors", metadata={"format": "pt"})
    assert load_teacher(f"hf:{tmp_path / 'labels'}").weights_sha256 != plain.weights_sha256


def test_extraction_of_digits_end_to_end(tmp_path: Path) -> None:
    write_model(tmp_path / "vit")
    flags = ("--teacher", f"hf:{tmp_path / 'vit'}", "--out", tmp_path / "cache", *caches.DIGITS, "--devices", "cpu")
    caches.extract(*flags, "--target", "layer_mean,cls", "--codec", "int8,float16")
    targetset = TargetSet(caches.targetset_of(tmp_path / "cache", "hf-vit-layer_mean-int8"))
    stored = read_decoded(targetset, codec_of(targetset), 0, torch.arange(5).numpy())
    assert stored.shape == (5, 1 + NUM_PATCHES, DIM)
    outcome = caches.command("shards", "verify", tmp_path / "cache", "--recompute", "10").succeeds()
    assert "mean cosine" in outcome.out + outcome.err
