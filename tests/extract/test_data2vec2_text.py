"""The data2vec 2.0 text network beyond the golden file: every flag of its front end, padding, and its rebuilding."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import rounding
import torch
from torch import Tensor
from torch.nn import functional as F

from extract.networks import build_network
from extract.networks.data2vec2 import Data2Vec2, TextOutputs, TextSettings, build_text_network, named
from extract.networks.data2vec2.settings import settings_of
from extract.networks.data2vec2.text import sine_positions, token_positions
from extract.networks.outputs import layer_mean
from extract.teachers.data2vec2 import load_data2vec2
from shards.errors import BadInput
from tests.extract.test_data2vec2_writer import make_checkpoint

GOLDEN = Path(__file__).parent / "golden" / "text_public.pt"
TEXT = "modality_encoders.TEXT."
SETTINGS = TextSettings(
    depth=2,
    prenet_depth=0,
    embed_dim=8,
    num_heads=2,
    num_alibi_heads=2,
    norm_eps=1e-5,
    average_top_k_layers=2,
    num_extra_tokens=0,
    instance_norm_target_layer=True,
    vocab_size=30,
    max_source_positions=9,
)
IDS = torch.tensor([[0, 7, 9, 11, 29, 2], [0, 12, 2, 1, 1, 1], [0, 2, 1, 1, 1, 1]])
VALID = IDS.ne(1)


def network_of(**changes: Any) -> Data2Vec2:
    torch.manual_seed(0)
    return build_text_network(dataclasses.replace(SETTINGS, **changes)).requires_grad_(False).eval()


def outputs_of(network: Data2Vec2, ids: Tensor = IDS, valid: Tensor = VALID) -> dict[str, Tensor]:
    return named(network)(ids, valid)


def altered(folder: Path, tensors: dict[str, Any] | None = None, **text: Any) -> Path:
    """The golden checkpoint with other flags of its text section and other tensors, None for none."""
    content = torch.load(GOLDEN, weights_only=True)
    content["cfg"]["model"]["modalities"]["text"].update(text)
    content["model"] = {key: t for key, t in (content["model"] | (tensors or {})).items() if t is not None}
    torch.save(content, folder / "text.pt")
    return folder / "text.pt"


def test_the_real_base_models_tensors() -> None:
    """124,054,272 numbers without the decoder, of which the blocks, which `_ema` averages, have 85,054,464 in 144."""
    base = {"depth": 12, "embed_dim": 768, "num_heads": 12, "vocab_size": 50265, "max_source_positions": 512}
    with torch.device("meta"):
        state = build_text_network(dataclasses.replace(SETTINGS, **base)).state_dict()
    blocks = [tensor for name, tensor in state.items() if name.startswith("blocks.")]
    assert sum(tensor.numel() for tensor in state.values()) == 124_054_272
    assert (len(blocks), sum(tensor.numel() for tensor in blocks)) == (144, 85_054_464)


def test_positions_are_counted_by_ids() -> None:
    assert token_positions(IDS).tolist() == [[2, 3, 4, 5, 6, 7], [2, 3, 4, 1, 1, 1], [2, 3, 1, 1, 1, 1]]
    assert token_positions(torch.tensor([[1, 5, 1, 6]])).tolist() == [[1, 2, 1, 3]]


@pytest.mark.parametrize("dim", [8, 9])
def test_sine_positions_entry_by_entry(dim: int) -> None:
    table = sine_positions(torch.tensor([[2, 3, 1]]), dim)
    for row, position in enumerate([2, 3]):
        for channel in range(8):
            wave = math.sin if channel < 4 else math.cos
            expected = wave(position * 10000 ** (-(channel % 4) / 3))
            assert table[0, row, channel].item() == pytest.approx(expected, abs=1e-6)
    assert not table[0, 2].any() and not table[..., 8:].any() and table.shape == (1, 3, dim)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("positions", ["learned", "sine", "none"])
@pytest.mark.parametrize("norm", [False, True])
def test_every_flag_of_the_front_end(scaled: bool, positions: str, norm: bool) -> None:
    network = network_of(
        no_scale_embedding=not scaled,
        learned_pos=positions == "learned",
        no_token_positional_embeddings=positions == "none",
        layernorm_embedding=norm,
        norm_eps=0.5,  # that of the blocks alone
    )
    state = {name.removeprefix("encoder.local_encoder."): t for name, t in network.state_dict().items()}
    expected = state["embed_tokens.weight"][IDS] * (math.sqrt(8) if scaled else 1)
    if positions == "learned":
        assert state["embed_positions.weight"].shape == (11, 8)
        expected = expected + state["embed_positions.weight"][token_positions(IDS)]
    elif positions == "sine":
        expected = expected + sine_positions(token_positions(IDS), 8)
    assert ("embed_positions.weight" in state) == (positions == "learned")
    expected = F.layer_norm(expected, (8,), eps=1e-5) if norm else expected
    found = network.encoder.local_encoder(IDS)
    torch.testing.assert_close(found, expected, rtol=0, atol=rounding.of_rows(expected))


@pytest.mark.parametrize("prenet_depth", [0, 2])
@pytest.mark.parametrize("norm_first", [False, True])
def test_norms_between_embedding_and_blocks(prenet_depth: int, norm_first: bool) -> None:
    """A context norm before prenet blocks alone; a last norm where norms come first, and never both."""
    network = network_of(prenet_depth=prenet_depth, layer_norm_first=norm_first)
    assert (network.encoder.context_encoder.norm is not None) == (prenet_depth > 0 and not norm_first)
    assert (network.norm is not None) == norm_first


@pytest.mark.parametrize(
    "changes", [{}, {"use_alibi_encoder": True}, {"num_extra_tokens": 2}, {"prenet_depth": 1}], ids=str
)
@pytest.mark.parametrize("counts_padding", [False, True])
def test_padding_changes_nothing_but_a_layer_means_statistics(changes: dict, counts_padding: bool) -> None:
    network = network_of(**changes, counts_padding=counts_padding)
    together, alone = outputs_of(network), outputs_of(network, IDS[1:2, :3], VALID[1:2, :3])
    extra = network.settings.num_extra_tokens
    assert all(rows.isfinite().all() for rows in together.values())
    for name, rows in alone.items():
        ours = together[name][1]
        if rows.dim() == 3:
            ours = ours[: rows.shape[1]]
        same = torch.allclose(ours, rows[0], rtol=0, atol=2 * rounding.of_rows(rows[0]))
        assert same == (name in ("tokens", "cls", "pooled") or not counts_padding), name
    tokens = together["tokens"][1]
    torch.testing.assert_close(together["pooled"][1], tokens[extra : extra + 3].mean(0))
    assert torch.equal(together["cls"], together["tokens"][:, 0])


def test_with_and_without_the_final_norm() -> None:
    every = torch.ones_like(VALID)
    network = network_of(average_top_k_layers=1)
    plain = F.instance_norm(network(IDS).layer_results[-1].mT).mT
    normed = F.layer_norm(plain, (8,))
    without, with_norm = (
        outputs_of(network_of(average_top_k_layers=1, layer_norm_targets=flag), valid=every) for flag in (False, True)
    )
    found = (
        without["layer_mean"],
        without["layer_mean_norm"],
        with_norm["layer_mean"],
        with_norm["layer_mean_no_norm"],
    )
    for rows, expected in zip(found, (plain, normed, normed, plain), strict=True):
        torch.testing.assert_close(rows, expected, rtol=0, atol=rounding.of_rows(expected))
    assert "layer_mean_no_norm" not in without and "layer_mean_norm" not in with_norm  # each is layer_mean


def test_a_text_without_a_token_is_finite() -> None:
    outputs = outputs_of(network_of(), IDS, torch.zeros_like(VALID))
    assert all(rows.isfinite().all() for rows in outputs.values())
    assert not outputs["pooled"].any()


def test_more_tokens_than_positions_are_refused() -> None:
    network = network_of()
    network(torch.full((1, 9), 5))
    with pytest.raises(
        BadInput, match="takes at most 9 tokens, found 10; make shorter blocks, as --view blocks:size=9"
    ):
        network(torch.full((1, 10), 5))


def test_a_student_is_rebuilt_from_its_settings_and_answers_for_the_teachers_layers() -> None:
    teacher = network_of(depth=4)
    student = named(teacher.first_blocks(2), 4, {"layer_mean": 5})
    assert isinstance(student, TextOutputs)
    assert student.names == (
        *("layer_mean", "layer_mean_norm", "tokens", "cls", "pooled"),
        *("layer_2", "layer_4"),
    )
    assert set(student.extra_tokens.values()) == {0}
    arguments = {"settings": dataclasses.asdict(student.settings), "teacher_depth": 4, "projectors": {"layer_mean": 5}}
    rebuilt = build_network("data2vec2", None, **json.loads(json.dumps(arguments)))
    rebuilt.load_state_dict(student.state_dict())
    found, expected = rebuilt(IDS, VALID), student(IDS, VALID)
    assert found.keys() == expected.keys() and found["layer_mean"].shape == (3, 6, 5)
    assert all(torch.equal(rows, expected[name]) for name, rows in found.items())
    assert torch.equal(student(IDS, VALID, torch.ones_like(IDS))["tokens"], expected["tokens"])
    own = student.by_own_blocks()(IDS, VALID)
    assert torch.equal(own["layer_1"], expected["layer_2"]) and torch.equal(own["layer_2"], expected["layer_4"])
    torch.testing.assert_close(student.only(["tokens"])(IDS, VALID)["tokens"], expected["tokens"])


def test_first_blocks_train() -> None:
    student = network_of().first_blocks(1)
    loss = layer_mean(student(IDS, ~VALID).layer_results, student.settings.layer_mean).square()[VALID][:, 0].sum()
    loss.backward()
    local = student.encoder.local_encoder
    assert local.embed_tokens.weight.grad[[0, 7, 29]].any(1).all() and not local.embed_tokens.weight.grad[1].any()
    assert local.embed_positions.weight.grad[2].any()


WRONG = [
    ({"vocab_size": 4}, "vocab_size: expected 5 to"),
    ({"max_source_positions": 0}, "max_source_positions: expected"),
]
WRONG += [({"modality": "image"}, "modality: expected text"), ({"vocab_size": "30"}, "of type int")]
WRONG += [({"max_source_positions": 1 << 20}, "expected 0 to"), ({"patch_size": 4}, "patch_size: missing or unknown")]


@pytest.mark.parametrize(("changes", "expected"), WRONG, ids=str)
def test_impossible_settings_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        settings_of(dataclasses.asdict(SETTINGS) | changes)


def test_ema_has_the_students_embeddings_and_its_own_blocks() -> None:
    student, ema = (load_data2vec2(GOLDEN, weights).state_dict() for weights in ("student", "ema"))
    assert student.keys() == ema.keys()
    for name, tensor in student.items():
        assert torch.equal(tensor, ema[name]) == name.startswith("encoder."), name


def test_a_checkpoints_flags_and_tensors_are_checked(tmp_path: Path) -> None:
    def refused(expected: str, tensors: dict[str, Any] | None = None, **text: Any) -> None:
        with pytest.raises(BadInput, match=expected) as caught:
            load_data2vec2(altered(tmp_path, tensors, **text))
        assert str(caught.value).startswith(f"{tmp_path / 'text.pt'}: ")

    refused("embed_positions.weight should be \\(52, 48\\) by its cfg, found \\(42, 48\\)", max_source_positions=50)
    refused("missing none, unexpected encoder.local_encoder.embed_positions.weight", learned_pos=False)
    refused("no_scale_embedding of the model should be of type bool", no_scale_embedding=1)
    refused("modalities.text.prenet_depth is 2, but the file holds 0", prenet_depth=2)
    refused("expected a table of token embeddings", {f"{TEXT}local_encoder.embed_tokens.weight": None})
    without = {f"{TEXT}local_encoder.embed_positions.weight": None}
    network = load_data2vec2(altered(tmp_path, without, learned_pos=False))
    assert isinstance(network.settings, TextSettings) and not network.settings.learned_pos


def test_a_file_of_two_modalities_is_what_its_cfg_supports(tmp_path: Path) -> None:
    images = {key: t for key, t in make_checkpoint()["model"].items() if key.startswith("modality_encoders.IMAGE.")}
    assert isinstance(load_data2vec2(altered(tmp_path, images)).settings, TextSettings)
