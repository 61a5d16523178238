"""BEiT v2 (Peng et al. 2022, arXiv:2208.06366) from the official checkpoints, through transformers' BeitModel.

Layout and block: microsoft/unilm, beit2/modeling_pretrain.py and modeling_finetune.py. h = x + gamma_1 Attn(norm1(x)),
out = h + gamma_2 MLP(norm2(h)), with biases on queries and values, none on keys, and with relative position biases, of
one table for all blocks (pre-trained files) or of one a block (fine-tuned files).
"""

import argparse
import hashlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BeitConfig

from extract.modalities.image import IMAGENET_MEAN, IMAGENET_STD, ImageInput
from extract.networks.hub_encoder import load_encoder
from extract.networks.named_tokens import NamedTokens
from extract.networks.state_dict import read_state_dict, shown
from extract.teachers.base import Teacher, freeze, sha256_of_state
from extract.teachers.download import located
from shards.errors import BadInput

# the self-supervised base model after 1600 epochs, as beit2/PRETRAINING.md lists it
OFFICIAL_URL = "https://github.com/addf400/files/releases/download/BEiT-v2/beitv2_base_patch16_224_pt1k.pth"

Tensors = dict[str, Tensor]

# used in pre-training and in classification only; the index of the relative positions is made anew
_IGNORED = re.compile(r"mask_token|(lm_head|head|fc_norm|cls_pt_\w+)\..+|(.+\.)?relative_position_index")
_TABLE = "relative_position_bias_table"
_SHARED_TABLE, _FIRST_TABLE = f"rel_pos_bias.{_TABLE}", f"blocks.0.attn.{_TABLE}"


def _with_bias(modules: dict[str, str]) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in modules.items() for part in ("weight", "bias")}


# The checkpoint's names and transformers': those of its older files, which every version of it reads.
_OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    **_with_bias({"patch_embed.proj": "embeddings.patch_embeddings.projection"}),
}
_OPTIONAL = {
    "pos_embed": "embeddings.position_embeddings",
    _SHARED_TABLE: f"encoder.relative_position_bias.{_TABLE}",
    **_with_bias({"norm": "layernorm"}),
}
_QKV = "attn.qkv.weight"
_BLOCK = {
    **_with_bias({"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense"}),
    **_with_bias({"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}),
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    _QKV: "attention.attention.{}.weight",
    "gamma_1": "lambda_1",
    "gamma_2": "lambda_2",
}


def load(spec: str, weights: str | None, image_size: int | None, weights_key: str | None = None) -> Teacher:
    """BEiT v2 from the official file or `--weights`, pre-trained or fine-tuned; a checkpoint of any size tells its own.

    `tokens` are after the final norm of a pre-trained file; fine-tuned ones have none. At another `image_size` the
    relative positions are interpolated as transformers does it, bilinearly.
    """
    path = located(weights or OFFICIAL_URL)
    with torch.serialization.safe_globals([argparse.Namespace]):  # the trainer's arguments, which hold plain values
        state = read_state_dict(path, weights_key)
    state = {name: tensor for name, tensor in state.items() if not _IGNORED.fullmatch(name)}
    names = _names(path, state)
    structure = _structure(path, state)
    network, _ = load_encoder(str(path), BeitConfig(**structure), None, lambda: _renamed(state, names))
    size = image_size or structure["image_size"]
    hashed = hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()[:16]
    inputs = ImageInput(size, IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        named = NamedTokens(network, size, str(path))
        teacher = freeze(spec, f"beitv2/{hashed}", named, inputs, None, sha256_of_state(state))
    return replace(teacher, settings={"depth": named.depth})


def _names(path: Path, state: Tensors) -> dict[str, str]:
    """transformers' name for each tensor; BadInput names what is missing and what is left over."""
    blocks = {match[1] for match in (re.match(r"blocks\.(\d+)\.", name) for name in state) if match}
    of_block = dict(_BLOCK)
    if _FIRST_TABLE in state:
        of_block[f"attn.{_TABLE}"] = f"attention.attention.relative_position_bias.{_TABLE}"
    names = _OUTSIDE | {theirs: ours for theirs, ours in _OPTIONAL.items() if theirs in state}
    for block in range(max(1, len(blocks))):
        names |= {f"blocks.{block}.{theirs}": f"encoder.layer.{block}.{ours}" for theirs, ours in of_block.items()}
    missing, unexpected = names.keys() - state.keys(), state.keys() - names.keys()
    if missing or unexpected:
        raise BadInput(
            f"{path}: not a BEiT v2 checkpoint of unilm: missing {shown(missing)}, unexpected {shown(unexpected)}; "
            "give for example beitv2_base_patch16_224_pt1k.pth"
        )
    return names


def _structure(path: Path, state: Tensors) -> dict[str, Any]:
    """BeitConfig's arguments, as the tensors' shapes tell them."""
    table = state.get(_SHARED_TABLE, state.get(_FIRST_TABLE))
    positions = state.get("pos_embed")
    dims = {"cls_token": 3, "patch_embed.proj.weight": 4, "blocks.0.mlp.fc1.weight": 2, "pos_embed": 3}
    dims |= {name: 2 for name in state if name.endswith((_TABLE, _QKV))}
    if wrong := next((name for name, dim in dims.items() if name in state and state[name].ndim != dim), None):
        raise BadInput(f"{path}: tensor {wrong} has the shape {tuple(state[wrong].shape)}; download the file again")
    if table is not None:
        side = (math.isqrt(max(0, len(table) - 3)) + 1) // 2  # (2 side - 1)^2 distances, and three for CLS
    elif positions is not None:
        side = math.isqrt(positions.shape[1] - 1)
    else:
        raise BadInput(f"{path}: holds no positions ({_SHARED_TABLE}, {_FIRST_TABLE} or pos_embed); download it again")
    width, patch_size = state["cls_token"].shape[-1], state["patch_embed.proj.weight"].shape[-1]
    return {
        "hidden_size": width,
        "num_hidden_layers": sum(name.endswith(_QKV) for name in state),
        "num_attention_heads": max(1, width // 64) if table is None else table.shape[1],
        "intermediate_size": len(state["blocks.0.mlp.fc1.weight"]),
        "patch_size": patch_size,
        "image_size": side * patch_size,
        "layer_norm_eps": 1e-6,
        "layer_scale_init_value": 1.0,  # so that there are scales; the file's take its place
        "use_shared_relative_position_bias": _SHARED_TABLE in state,
        "use_relative_position_bias": _FIRST_TABLE in state,
        "use_absolute_position_embeddings": positions is not None,
        "use_mean_pooling": "norm.weight" not in state,  # which is transformers' name for: no final norm
    }


def _renamed(state: Tensors, names: dict[str, str]) -> Tensors:
    """The tensors by transformers' names, the joint projection split in three."""
    renamed = {}
    for name, tensor in state.items():
        if name.endswith(_QKV):
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=False):
                renamed[names[name].format(part)] = rows.contiguous()
        else:
            renamed[names[name]] = tensor
    return renamed
