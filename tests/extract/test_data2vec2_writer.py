"""A writer of tiny checkpoints in fairseq's layout, and a second formulation of the network that reads it.

`write_checkpoint` draws random tensors for a cfg; `reference` computes the forward with an explicit softmax, straight
from the official tensor names, in float64. This file's tests check the writer against the counts of the real models.
"""

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from extract.networks.data2vec2 import build_image_network
from extract.networks.data2vec2.settings import read_settings

TINY = {
    "depth": 3, "num_heads": 4, "norm_eps": 1e-3, "norm_affine": True, "embed_dim": 16, "mlp_ratio": 4.0,
    "layer_norm_first": False, "average_top_k_layers": 2, "end_of_block_targets": False, "clone_batch": 2,
    "batch_norm_target_layer": False, "instance_norm_target_layer": True, "layer_norm_target_layer": False,
    "layer_norm_targets": True, "instance_norm_targets": False, "ema_encoder_only": False,
    "supported_modality": "IMAGE",
}  # fmt: skip
TINY_IMAGE = {
    "type": "IMAGE", "prenet_depth": 1, "num_extra_tokens": 1, "ema_local_encoder": True, "use_alibi_encoder": False,
    "alibi_scale": 1.0, "learned_alibi": False, "learned_alibi_scale": False, "learned_alibi_scale_per_head": False,
    "learned_alibi_scale_per_layer": False, "num_alibi_heads": 4, "model_depth": 3, "input_size": 12, "in_chans": 3,
    "patch_size": 4, "embed_dim": 16, "alibi_dims": 2, "alibi_distance": "manhattan", "fixed_positions": True,
}  # fmt: skip
IMAGE = "modality_encoders.IMAGE."


def make_config(**changes: Any) -> dict[str, Any]:
    """A cfg as the trainer saves it, `changes` put where they belong (`local_embed_dim` is the image's embed_dim)."""
    image = {**TINY_IMAGE, "embed_dim": changes.get("embed_dim", 16), "num_alibi_heads": changes.get("num_heads", 4)}
    model = {"_name": "data2vec_multi", **TINY, "modalities": {"_name": None, "image": image}}
    for name, value in changes.items():
        if name == "local_embed_dim":
            image["embed_dim"] = value
        else:
            (image if name in TINY_IMAGE and name != "embed_dim" else model)[name] = value
    return {"_name": None, "common": {"seed": 1}, "model": model, "task": {"rebuild_batches": True}}


def official_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors without the decoder, as fairseq's modules register them."""
    model, image = config["model"], config["model"]["modalities"]["image"]
    dim, heads, inner = model["embed_dim"], image["num_alibi_heads"], image["embed_dim"]
    patch, size = image["patch_size"], image["input_size"]
    shapes: dict[str, tuple[int, ...]] = {}

    def add(prefix: str, *weight: int) -> None:
        shapes[f"{prefix}.weight"], shapes[f"{prefix}.bias"] = weight, weight[:1]

    def add_norm(prefix: str) -> None:
        if model["norm_affine"]:
            add(prefix, dim)

    def add_block(prefix: str) -> None:
        hidden = int(dim * model["mlp_ratio"])
        add_norm(f"{prefix}.norm1")
        add(f"{prefix}.attn.qkv", 3 * dim, dim)
        add(f"{prefix}.attn.proj", dim, dim)
        add_norm(f"{prefix}.norm2")
        add(f"{prefix}.mlp.fc1", hidden, dim)
        add(f"{prefix}.mlp.fc2", dim, hidden)

    if image["num_extra_tokens"]:
        shapes[f"{IMAGE}extra_tokens"] = (1, image["num_extra_tokens"], dim)
    if image["use_alibi_encoder"]:
        layers = image["prenet_depth"] + model["depth"] if image["learned_alibi_scale_per_layer"] else 1
        shapes[f"{IMAGE}alibi_scale"] = (layers, 1, heads if image["learned_alibi_scale_per_head"] else 1, 1, 1)
    local = f"{IMAGE}local_encoder."
    add(f"{local}proj" if inner == dim else f"{local}0.proj", inner, image["in_chans"], patch, patch)
    if inner != dim:
        add(f"{local}1", dim, inner)
    if image["fixed_positions"]:
        shapes[f"{IMAGE}fixed_positional_encoder.positions"] = (1, (size // patch) ** 2, dim)
    for i in range(image["prenet_depth"]):
        add_block(f"{IMAGE}context_encoder.blocks.{i}")
    add_norm("norm" if model["layer_norm_first"] else f"{IMAGE}context_encoder.norm")
    for i in range(model["depth"]):
        add_block(f"blocks.{i}")
    return shapes


def make_checkpoint(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Student tensors, a decoder, and `_ema` tensors of other values, in the layout that the cfg's flags ask for."""
    config = make_config(**changes)
    generator = torch.Generator().manual_seed(seed)

    def draw(shapes: dict[str, tuple[int, ...]]) -> OrderedDict[str, Any]:
        tensors = OrderedDict((key, 0.4 * torch.randn(shape, generator=generator)) for key, shape in shapes.items())
        for key, tensor in tensors.items():
            if "alibi_scale" in key or ("norm" in key and key.endswith("weight")):
                tensor.add_(1.0)
        return tensors

    shapes = official_shapes(config)
    student, ema = draw(shapes), draw(shapes)
    if config["model"]["ema_encoder_only"]:
        ema = OrderedDict((key.removeprefix("blocks."), t) for key, t in ema.items() if key.startswith("blocks."))
    elif not config["model"]["modalities"]["image"]["ema_local_encoder"]:
        ema = OrderedDict((key, tensor) for key, tensor in ema.items() if ".local_encoder." not in key)
    student[f"{IMAGE}decoder.proj.weight"] = torch.zeros(2, 2)
    student["_ema"] = dict(ema)
    top = {"args": None, "cfg": config, "model": student, "criterion": None, "optimizer_history": [], "task_state": {}}
    return {**top, "extra_state": {"epoch": 1}, "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(3)}}}}


def write_checkpoint(file: Path, checkpoint: dict[str, Any] | None = None, **changes: Any) -> Path:
    """`checkpoint`, or a new one for the changes, as torch.save writes it."""
    torch.save(checkpoint or make_checkpoint(**changes), file)
    return file


def reference(
    checkpoint: dict[str, Any], images: Tensor, padding: Tensor | None = None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The student's (tokens, layer results, block outputs) by explicit formulas on the official tensors, in float64."""
    model, image = checkpoint["cfg"]["model"], checkpoint["cfg"]["model"]["modalities"]["image"]
    dim, heads, depth, prenet = model["embed_dim"], model["num_heads"], model["depth"], image["prenet_depth"]
    tensors = {key: value.double() for key, value in checkpoint["model"].items() if isinstance(value, Tensor)}

    def linear(x: Tensor, prefix: str) -> Tensor:
        return x @ tensors[f"{prefix}.weight"].T + tensors[f"{prefix}.bias"]

    def norm(x: Tensor, prefix: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + model["norm_eps"])
        return x * tensors[f"{prefix}.weight"] + tensors[f"{prefix}.bias"] if model["norm_affine"] else x

    def attention(x: Tensor, prefix: str, bias: Tensor) -> Tensor:
        outputs = []
        q, k, v = linear(x, f"{prefix}.qkv").split(dim, dim=-1)
        for h in range(heads):
            part = slice(h * dim // heads, (h + 1) * dim // heads)
            logits = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(dim // heads) + bias[:, h]
            outputs.append(torch.softmax(logits, dim=-1) @ v[..., part])
        return linear(torch.cat(outputs, dim=-1), f"{prefix}.proj")

    def mlp(x: Tensor, prefix: str) -> Tensor:
        x = linear(x, f"{prefix}.fc1")
        return linear(0.5 * x * (1 + torch.erf(x / math.sqrt(2))), f"{prefix}.fc2")

    def block(x: Tensor, prefix: str, bias: Tensor) -> tuple[Tensor, Tensor]:
        if model["layer_norm_first"]:
            h = x + attention(norm(x, f"{prefix}.norm1"), f"{prefix}.attn", bias)
            t = mlp(norm(h, f"{prefix}.norm2"), f"{prefix}.mlp")
            return 2 * t, t
        r = norm(x + attention(x, f"{prefix}.attn", bias), f"{prefix}.norm1")
        t = mlp(r, f"{prefix}.mlp")
        return norm(r + t, f"{prefix}.norm2"), t

    local, patch = f"{IMAGE}local_encoder.", image["patch_size"]
    kernel = f"{local}proj" if image["embed_dim"] == dim else f"{local}0.proj"
    patches = F.unfold(images.double(), patch, stride=patch).transpose(1, 2)
    x = patches @ tensors[f"{kernel}.weight"].flatten(1).T + tensors[f"{kernel}.bias"]
    x = x if image["embed_dim"] == dim else linear(x, f"{local}1")
    num_patches, extra = x.shape[1], image["num_extra_tokens"]
    if image["fixed_positions"]:
        x = x + tensors[f"{IMAGE}fixed_positional_encoder.positions"]
    if extra:
        x = torch.cat([tensors[f"{IMAGE}extra_tokens"].expand(len(x), -1, -1), x], dim=1)
    x = x if model["layer_norm_first"] else norm(x, f"{IMAGE}context_encoder.norm")
    results, outputs = [], []
    for layer in range(prenet + depth):
        bias = torch.zeros(len(x), heads, x.shape[1], x.shape[1], dtype=torch.float64)
        if image["use_alibi_encoder"]:
            bias[:, : image["num_alibi_heads"], extra:, extra:] = reference_alibi(
                image, num_patches, tensors[f"{IMAGE}alibi_scale"], layer
            )
        if padding is not None:
            bias[:, :, :, extra:].masked_fill_(padding[:, None, None], -math.inf)
        inside = layer < prenet
        x, t = block(x, f"{IMAGE}context_encoder.blocks.{layer}" if inside else f"blocks.{layer - prenet}", bias)
        if not inside:
            results.append(x if model["end_of_block_targets"] else t)
            outputs.append(x)
    return norm(x, "norm") if model["layer_norm_first"] else x, results, outputs


def reference_alibi(image: dict[str, Any], num_patches: int, scale: Tensor, layer: int) -> Tensor:
    """The (heads, patches, patches) bias of one layer, entry by entry."""
    heads, side = image["num_alibi_heads"], math.isqrt(num_patches)
    of_head = scale[layer if len(scale) > 1 else 0].flatten().clamp(min=0).expand(heads)
    power = max(2**n for n in range(10) if 2**n <= heads)
    slopes = [2 ** (-8 / power * (h + 1)) for h in range(power)] + [
        2 ** (-4 / power * (2 * h + 1)) for h in range(power)
    ]
    bias = torch.zeros(heads, num_patches, num_patches, dtype=torch.float64)
    for i in range(num_patches):
        for j in range(num_patches):
            rows, columns = abs(i // side - j // side), abs(i % side - j % side)
            distance = {"manhattan": rows + columns, "euclidean": math.hypot(rows, columns)}[image["alibi_distance"]]
            for h in range(heads):
                bias[h, i, j] = -slopes[h] * (distance if image["alibi_dims"] == 2 else abs(i - j)) * of_head[h]
    return bias


BASE = {"embed_dim": 768, "num_heads": 12, "input_size": 224, "patch_size": 16}


def test_writer_and_network_have_the_real_base_models_tensors() -> None:
    """150 tensors, 85,797,888 numbers without the decoder, with 2 + 10 blocks and with 0 + 12 alike."""
    for prenet, depth in ((2, 10), (0, 12)):
        config = make_config(**BASE, prenet_depth=prenet, depth=depth)
        shapes = official_shapes(config)
        with torch.device("meta"):
            ours = build_image_network(read_settings(config, "image")).state_dict()
        assert len(shapes) == len(ours) == 150
        assert sum(map(math.prod, shapes.values())) == sum(t.numel() for t in ours.values()) == 85_797_888


def test_writer_keeps_the_average_in_either_key_space() -> None:
    full, blocks = (make_checkpoint(ema_encoder_only=flag)["model"] for flag in (False, True))
    assert set(full["_ema"]) == {key for key in full if key != "_ema" and ".decoder." not in key}
    assert set(blocks["_ema"]) == {key.removeprefix("blocks.") for key in blocks if key.startswith("blocks.")}
