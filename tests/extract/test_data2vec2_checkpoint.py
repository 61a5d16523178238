"""Which weights of a data2vec 2.0 checkpoint are loaded, under which names, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.teachers.data2vec2 import OFFICIAL_URLS, load_data2vec2
from shards.errors import BadInput, UnknownName
from tests.extract.test_data2vec2_writer import IMAGE, make_checkpoint, write_checkpoint


def refused(file: Path, *expected: str, weights: str = "student") -> str:
    """The message of the refusal: one line that names the file and holds every expected part."""
    with pytest.raises(BadInput) as caught:
        load_data2vec2(file, weights=weights)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{file}: ")
    for part in expected:
        assert part in message
    return message


def ours(key: str) -> str:
    return key.replace(IMAGE, "encoder.").replace("fixed_positional_encoder.", "")


def with_model(checkpoint: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint with tensors added, or removed where the change is None."""
    model = {**checkpoint["model"], **changes}
    return {**checkpoint, "model": {key: value for key, value in model.items() if value is not None}}


@pytest.mark.parametrize("weights", ["student", "ema"])
def test_every_tensor_arrives_and_the_network_is_frozen(tmp_path: Path, weights: str) -> None:
    checkpoint = make_checkpoint(use_alibi_encoder=True)
    state = load_data2vec2(write_checkpoint(tmp_path / "tiny.pt", checkpoint), weights=weights).state_dict()
    source = checkpoint["model"] if weights == "student" else checkpoint["model"]["_ema"]
    tensors = {ours(key): t for key, t in source.items() if isinstance(t, Tensor) and ".decoder." not in key}
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in tensors.items())
    network = load_data2vec2(str(tmp_path / "tiny.pt"), weights=weights)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("flags", [{"ema_encoder_only": True}, {"ema_local_encoder": False}])
def test_parts_without_an_average_come_from_the_student(tmp_path: Path, flags: dict[str, bool]) -> None:
    checkpoint = make_checkpoint(**flags)
    student, ema = checkpoint["model"], checkpoint["model"]["_ema"]
    state = load_data2vec2(write_checkpoint(tmp_path / "tiny.pt", checkpoint), weights="ema").state_dict()
    local, block = f"{IMAGE}local_encoder.proj.weight", "blocks.0.mlp.fc1.weight"
    assert torch.equal(state[ours(local)], student[local])
    averaged = ema[block.removeprefix("blocks.")] if "ema_encoder_only" in flags else ema[block]
    assert torch.equal(state[block], averaged) and not torch.equal(averaged, student[block])


def test_an_average_that_is_not_there_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    file = write_checkpoint(tmp_path / "no_ema.pt", with_model(checkpoint, {"_ema": None}))
    refused(file, "--weights FILE:key=ema: the file holds no averaged weights ('_ema')", weights="ema")
    load_data2vec2(file)
    del checkpoint["model"]["_ema"]["blocks.1.norm1.bias"]
    file = write_checkpoint(tmp_path / "half_ema.pt", checkpoint)
    refused(file, "'_ema' lacks blocks.1.norm1.bias", weights="ema")
    with pytest.raises(UnknownName, match="student"):
        load_data2vec2(file, weights="teacher")


def test_a_fine_tuned_file_gives_the_same_network(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    plain = load_data2vec2(write_checkpoint(tmp_path / "tiny.pt", checkpoint))
    model = {f"model.{key}": t for key, t in checkpoint["model"].items() if key != "_ema" and ".decoder." not in key}
    model |= {"head.weight": torch.zeros(5, 16), "head.bias": torch.zeros(5), "fc_norm.weight": torch.ones(16)}
    config = {"model": {"_name": "mae_image_classification", "pretrained_model_args": checkpoint["cfg"]}}
    file = write_checkpoint(tmp_path / "fine_tuned.pt", {"cfg": config, "model": model})
    tuned = load_data2vec2(file)
    assert tuned.settings == plain.settings
    assert all(torch.equal(a, tuned.state_dict()[key]) for key, a in plain.state_dict().items())
    refused(file, "holds no averaged weights", weights="ema")
    config["model"]["pretrained_model_args"] = None
    refused(
        write_checkpoint(file, {"cfg": config, "model": model}), "pretrained_model_args", "give the pre-trained file"
    )


@pytest.mark.parametrize("old", ["positional_encoder.pos_embed", "positional_encoder.positions"])
def test_names_of_older_files(tmp_path: Path, old: str) -> None:
    checkpoint = make_checkpoint(use_alibi_encoder=True, learned_alibi_scale=True, learned_alibi_scale_per_head=True)
    model = checkpoint["model"]
    new = load_data2vec2(write_checkpoint(tmp_path / "new.pt", checkpoint))
    positions, scale = f"{IMAGE}fixed_positional_encoder.positions", f"{IMAGE}alibi_scale"
    changes = {positions: None, f"{IMAGE}{old}": model[positions], scale: model[scale].squeeze(0)}
    changes |= {f"{IMAGE}encoder_mask": torch.zeros(3), f"{IMAGE}alibi_bias": torch.zeros(3)}
    changes |= {"shared_decoder.proj.weight": torch.zeros(3), "recon_proj.weight": torch.zeros(3)}
    changes |= {"modality_encoders.TEXT.local_encoder.embed_tokens.weight": torch.zeros(3)}
    state = load_data2vec2(write_checkpoint(tmp_path / "old.pt", with_model(checkpoint, changes))).state_dict()
    assert state["encoder.alibi_scale"].shape == (1, 1, 4, 1, 1)
    assert all(torch.equal(tensor, state[key]) for key, tensor in new.state_dict().items())


def test_half_precision_is_loaded_as_float32(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    halves = {key: t.half() for key, t in checkpoint["model"].items() if isinstance(t, Tensor)}
    state = load_data2vec2(write_checkpoint(tmp_path / "half.pt", with_model(checkpoint, halves))).state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert torch.equal(state["blocks.0.norm1.weight"], halves["blocks.0.norm1.weight"].float())


def test_the_network_does_not_depend_on_the_file_any_more(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "tiny.pt")
    network = load_data2vec2(file)
    before = network.blocks[0].norm1.weight.clone()
    file.write_bytes(bytes(file.stat().st_size))
    assert torch.equal(network.blocks[0].norm1.weight, before)


def test_another_modality_is_named(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    for modality, expected in (("AUDIO", "of image or text, found one for audio"), ("TEXT", "embed_tokens.weight")):
        model = {key.replace("IMAGE", modality): value for key, value in checkpoint["model"].items()}
        refused(write_checkpoint(tmp_path / "other.pt", {**checkpoint, "model": model}), expected)


def test_depths_are_counted(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    checkpoint["cfg"]["model"]["depth"] = 10**12
    refused(write_checkpoint(tmp_path / "a.pt", checkpoint), "cfg.model.depth is 1000000000000", "holds 3 blocks")
    checkpoint = make_checkpoint()
    checkpoint["cfg"]["model"]["modalities"]["image"]["prenet_depth"] = 2
    refused(write_checkpoint(tmp_path / "b.pt", checkpoint), "prenet_depth is 2", "holds 1 blocks")
    model = {key.replace("blocks.2.", "blocks.7."): value for key, value in make_checkpoint()["model"].items()}
    refused(write_checkpoint(tmp_path / "c.pt", {**make_checkpoint(), "model": model}), "blocks named blocks.N")


def test_tensors_must_be_those_of_the_cfg(tmp_path: Path) -> None:
    file, checkpoint = tmp_path / "tiny.pt", make_checkpoint()
    changes: dict[str, Any] = {"norm.weight": torch.zeros(16)}
    refused(write_checkpoint(file, with_model(checkpoint, changes)), "missing none, unexpected norm.weight")
    changes = {"blocks.0.norm1.weight": None}
    refused(write_checkpoint(file, with_model(checkpoint, changes)), "missing blocks.0.norm1.weight")
    changes = {"blocks.0.attn.qkv.weight": torch.zeros(48, 15)}
    refused(write_checkpoint(file, with_model(checkpoint, changes)), "should be (48, 16) by its cfg, found (48, 15)")
    # a few bytes that claim to be a terabyte
    changes = {"blocks.0.attn.qkv.weight": torch.zeros(1).expand(48, 10**10)}
    refused(write_checkpoint(file, with_model(checkpoint, changes)), "not stored as it is declared")


def test_positions_for_another_size_are_refused_with_both_sizes(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    checkpoint["cfg"]["model"]["modalities"]["image"]["input_size"] = 16
    refused(write_checkpoint(tmp_path / "a.pt", checkpoint), "input_size 16", "(1, 16, 16)", "(1, 9, 16)")


def test_cfg_is_read_strictly_but_forgives_what_it_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "tiny.pt"
    for key, value, message in [
        ("num_heads", "4", "num_heads of the model should be of type int, found '4'"),
        ("depth", True, "depth of the model should be of type int, found True"),
        ("layer_norm_first", None, "layer_norm_first of the model should be of type bool"),
        ("modalities", None, "'modalities' should be a mapping"),
    ]:
        checkpoint = make_checkpoint()
        checkpoint["cfg"]["model"][key] = value
        refused(write_checkpoint(file, checkpoint), message)
    checkpoint = make_checkpoint()
    del checkpoint["cfg"]["model"]["norm_eps"]
    refused(write_checkpoint(file, checkpoint), "the cfg lacks norm_eps")
    refused(write_checkpoint(file, make_checkpoint(use_alibi_encoder=True, learned_alibi=True)), "learned_alibi")
    load_data2vec2(write_checkpoint(file, make_checkpoint(learned_alibi=True)))  # ALiBi is off: it says nothing
    checkpoint = make_checkpoint()
    image = checkpoint["cfg"]["model"]["modalities"]["image"]
    image |= {"mae_masking": None, "decoder": {"final_layer_norm": False}, "num_alibi_heads": "${model.num_heads}"}
    del checkpoint["cfg"]["model"]["end_of_block_targets"], image["alibi_dims"]
    settings = load_data2vec2(write_checkpoint(file, checkpoint)).settings
    assert (settings.end_of_block_targets, settings.alibi_dims, settings.num_alibi_heads) == (False, 2, 4)


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.save({"conv1.weight": torch.zeros(3)}, file)
    refused(file, "expected a fairseq checkpoint with 'cfg' and 'model', found the keys conv1.weight")
    torch.save({"cfg": {"model": {}}, "model": {"encoder.weight": torch.zeros(3)}}, file)
    refused(file, "expected a data2vec 2.0 checkpoint", "found 1 tensors such as 'encoder.weight'")
    torch.save([torch.zeros(3)], file)
    refused(file, "found list")


def test_official_urls_are_plain_https_files() -> None:
    assert list(OFFICIAL_URLS) == ["base", "large", "huge"]
    for size, url in OFFICIAL_URLS.items():
        assert re.fullmatch(rf"https://dl\.fbaipublicfiles\.com/fairseq/data2vec2/{size}_imagenet\.pt", url)
