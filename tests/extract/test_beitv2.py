"""BEiT v2 from the official layout: a written checkpoint, and unilm's forward from its tensors in plain PyTorch."""

import argparse
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from extract.teachers import load_teacher
from extract.teachers.beitv2 import OFFICIAL_URL
from shards.errors import BadInput, SourceUnavailable

DIM, HEADS, DEPTH, SIDE, PATCH = 32, 4, 3, 3, 8
SHARED, PER_BLOCK, ABSOLUTE = "rel_pos_bias.relative_position_bias_table", "relative_position_bias_table", "pos_embed"


def official_tensors(positions: str = SHARED, norm: bool = True) -> dict[str, Tensor]:
    """A state dict as unilm's VisionTransformerForMaskedImageModelingCLS, or its VisionTransformer, writes one."""
    shapes = {
        "cls_token": (1, 1, DIM),
        "patch_embed.proj.weight": (DIM, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (DIM,),
    }
    table = ((2 * SIDE - 1) ** 2 + 3, HEADS)
    if positions == ABSOLUTE:
        shapes["pos_embed"] = (1, SIDE**2 + 1, DIM)
    blocks = [f"blocks.{block}" for block in range(DEPTH)]
    if positions == SHARED:  # a pre-trained file, with its decoder
        shapes |= {SHARED: table, "mask_token": (1, 1, DIM), "lm_head.weight": (50, DIM), "lm_head.bias": (50,)}
        blocks += ["cls_pt_layers.0"]
    else:
        shapes |= {"head.weight": (10, DIM), "head.bias": (10,), "fc_norm.weight": (DIM,), "fc_norm.bias": (DIM,)}
    for block in blocks:
        for name, rows, columns in (("attn.proj", DIM, DIM), ("mlp.fc1", 48, DIM), ("mlp.fc2", DIM, 48)):
            shapes |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
        shapes[f"{block}.attn.qkv.weight"] = (3 * DIM, DIM)
        vectors = ("attn.q_bias", "attn.v_bias", "gamma_1", "gamma_2", "norm1.weight", "norm1.bias", "norm2.weight")
        shapes |= {f"{block}.{name}": (DIM,) for name in (*vectors, "norm2.bias")}
        if positions == PER_BLOCK:
            shapes[f"{block}.attn.{PER_BLOCK}"] = table
    shapes |= {"norm.weight": (DIM,), "norm.bias": (DIM,)} if norm else {}
    generator = torch.Generator().manual_seed(len(shapes))
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    index = torch.zeros(SIDE**2 + 1, SIDE**2 + 1, dtype=torch.int64)
    return tensors | {name.replace("_bias_table", "_index"): index for name in tensors if name.endswith(PER_BLOCK)}


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    """A file as unilm's utils.save_model writes it: the trainer's arguments are an argparse.Namespace."""
    torch.save({"model": tensors, "epoch": 1, "args": argparse.Namespace(model="beit", lr=0.001)}, path)
    return path


def bias_of(table: Tensor) -> Tensor:
    """(heads, 1 + patches, 1 + patches), place by place: the table's last three rows are for CLS to a patch, a patch to
    CLS and CLS to itself."""
    bias = torch.empty(HEADS, SIDE**2 + 1, SIDE**2 + 1)
    for query in range(SIDE**2 + 1):
        for key in range(SIDE**2 + 1):
            down = (query - 1) // SIDE - (key - 1) // SIDE + SIDE - 1
            right = (query - 1) % SIDE - (key - 1) % SIDE + SIDE - 1
            row = down * (2 * SIDE - 1) + right
            row = -1 if query == key == 0 else -3 if query == 0 else -2 if key == 0 else row
            bias[:, query, key] = table[row]
    return bias


def reference(tensors: dict[str, Tensor], images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(tokens after the final norm if there is one, each block's output), softmax written out."""
    x = F.conv2d(images, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=PATCH)
    x = torch.cat([tensors["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
    x = x + tensors.get("pos_embed", 0)
    layers = []
    for block in range(DEPTH):
        own = {name.split(".", 2)[2]: value for name, value in tensors.items() if name.startswith(f"blocks.{block}.")}
        joint_bias = torch.cat([own["attn.q_bias"], torch.zeros(DIM), own["attn.v_bias"]])
        normed = F.layer_norm(x, (DIM,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in F.linear(normed, own["attn.qkv.weight"], joint_bias).split(DIM, -1)
        )
        scores = query @ key.transpose(-1, -2) * (DIM // HEADS) ** -0.5
        for table in (own.get(f"attn.{PER_BLOCK}"), tensors.get(SHARED)):
            scores = scores if table is None else scores + bias_of(table)
        attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        h = x + own["gamma_1"] * F.linear(attended, own["attn.proj.weight"], own["attn.proj.bias"])
        normed = F.layer_norm(h, (DIM,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        hidden = F.gelu(F.linear(normed, own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
        x = h + own["gamma_2"] * F.linear(hidden, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
        layers.append(x)
    return F.layer_norm(
        x, (DIM,), tensors["norm.weight"], tensors["norm.bias"], 1e-6
    ) if "norm.bias" in tensors else x, layers


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("positions", "norm"), [(SHARED, True), (PER_BLOCK, False), (PER_BLOCK, True)])
def test_equals_unilms_forward(tmp_path: Path, positions: str, norm: bool) -> None:
    tensors = official_tensors(positions, norm)
    teacher = load_teacher("beitv2", str(write(tmp_path / "beitv2.pth", tensors)))
    assert teacher.inputs.image_size == SIDE * PATCH
    images = torch.randn(2, 3, SIDE * PATCH, SIDE * PATCH, generator=torch.Generator().manual_seed(1))
    tokens, layers = reference(tensors, images)
    found = teacher.network(images)
    close(found["tokens"], tokens)
    close(found["cls"], tokens[:, 0])
    close(found["pooled"], tokens[:, 1:].mean(1))
    mean = torch.stack([F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in layers]).mean(0)
    close(found["layer_mean"], F.layer_norm(mean, (DIM,)))
    last = F.instance_norm(layers[-1].transpose(1, 2)).transpose(1, 2)
    close(found[f"layer_{DEPTH}"], F.layer_norm(last, (DIM,)))
    assert set(teacher.outputs) == {*found} >= {"layer_mean_no_cls", "layer_1"}
    assert teacher.extra_tokens["tokens"] == 1


def test_absolute_positions_tell_no_heads(tmp_path: Path) -> None:
    """Without a table the heads are 64 wide, as in all official models."""
    tensors = official_tensors(ABSOLUTE)
    teacher = load_teacher("beitv2", str(write(tmp_path / "beitv2.pth", tensors)))
    assert teacher.outputs["tokens"] == (SIDE**2 + 1, DIM)
    assert teacher.network.network.config.num_attention_heads == 1


def test_what_only_training_needs_has_no_part_in_the_identity(tmp_path: Path) -> None:
    tensors = official_tensors()
    bare = {
        name: tensor for name, tensor in tensors.items() if not name.startswith(("lm_head", "cls_pt", "mask_token"))
    }
    torch.save(bare, tmp_path / "bare.pth")
    whole = load_teacher("beitv2", str(write(tmp_path / "whole.pth", tensors)))
    same = load_teacher("beitv2", str(tmp_path / "bare.pth"))
    assert (same.architecture, same.weights_sha256) == (whole.architecture, whole.weights_sha256)
    altered = bare | {"blocks.2.attn.q_bias": bare["blocks.2.attn.q_bias"] + 1e-3}
    assert load_teacher("beitv2", str(write(tmp_path / "a.pth", altered))).weights_sha256 != whole.weights_sha256
    assert whole.architecture.startswith("beitv2/")


def test_another_image_size_interpolates_the_relative_positions(tmp_path: Path) -> None:
    path = write(tmp_path / "beitv2.pth", official_tensors())
    teacher = load_teacher("beitv2", str(path), image_size=5 * PATCH)
    assert teacher.outputs["tokens"] == (26, DIM)
    assert torch.isfinite(teacher.network(torch.randn(1, 3, 40, 40))["tokens"]).all()


BAD = {
    "a block's tensor is missing": (
        lambda tensors: tensors.pop("blocks.1.mlp.fc2.bias"),
        r"missing blocks.1.mlp.fc2.bias, unexpected none",
    ),
    "another network's": (
        lambda tensors: tensors.update({"blocks.0.attn.k_norm.weight": torch.zeros(1), "layer4.x": torch.zeros(1)}),
        r"missing none, unexpected blocks.0.attn.k_norm.weight, layer4.x; give for example beitv2_base",
    ),
    "no positions": (lambda tensors: tensors.pop(SHARED), "holds no positions"),
    "a scalar": (lambda tensors: tensors.update(cls_token=torch.zeros(())), r"tensor cls_token has the shape \(\)"),
    "mixed sizes": (
        lambda tensors: tensors.update({"blocks.2.gamma_1": torch.zeros(7)}),
        r"missing none, mis-shaped \S*2.lambda_1; download it again",
    ),
    "all of another": (lambda tensors: (tensors.clear(), tensors.update(a=torch.zeros(1))), r"missing .* and \d+ more"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_checkpoints_are_refused_by_their_keys(tmp_path: Path, kind: str) -> None:
    change, message = BAD[kind]
    tensors = official_tensors()
    change(tensors)
    path = write(tmp_path / "beitv2.pth", tensors)
    with pytest.raises(BadInput, match=message) as error:
        load_teacher("beitv2", str(path))
    assert str(error.value).startswith(str(path))


class Foreign:
    """What no checkpoint needs."""


def test_other_classes_than_the_trainers_arguments_are_refused(tmp_path: Path) -> None:
    torch.save({"model": official_tensors(), "args": Foreign()}, tmp_path / "beitv2.pth")
    with pytest.raises(BadInput, match=r"a pickle with \S+\.Foreign, which may run code"):
        load_teacher("beitv2", str(tmp_path / "beitv2.pth"))


def test_offline_the_url_and_the_flag_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: refused at once
    with pytest.raises(SourceUnavailable, match=rf"^{OFFICIAL_URL}: .*--weights FILE$"):
        load_teacher("beitv2")
