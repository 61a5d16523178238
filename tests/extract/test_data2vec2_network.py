"""The data2vec 2.0 network against a second formulation of it, and the properties that every flag must have."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
import rounding
import torch
from torch import Tensor
from torch.nn import functional as F

from extract.networks.data2vec2 import Data2Vec2, ImageSettings, build_image_network
from extract.networks.data2vec2.alibi import alibi_bias, alibi_slopes, token_distances
from extract.networks.data2vec2.image import sine_positions
from extract.networks.outputs import layer_mean
from extract.teachers.data2vec2 import load_data2vec2
from shards.errors import BadInput
from tests.extract.test_data2vec2_writer import IMAGE, make_checkpoint, reference, write_checkpoint

ALIBI = {"use_alibi_encoder": True, "learned_alibi_scale": True}
FLAGS = [
    {},
    {"end_of_block_targets": True},
    {"layer_norm_first": True},
    {"layer_norm_first": True, "end_of_block_targets": True},
    {"prenet_depth": 0},
    {"prenet_depth": 2, "depth": 1},
    {"num_extra_tokens": 0},
    {"num_extra_tokens": 3},
    {"norm_affine": False},
    {"norm_eps": 1e-1},
    {"local_embed_dim": 12},
    {"fixed_positions": False},
    {"mlp_ratio": 2.6},
    {"in_chans": 1},
    {"patch_size": 5},  # a rest of 2 pixels is cut off
    {"use_alibi_encoder": True},
    {**ALIBI, "alibi_dims": 1},
    {**ALIBI, "alibi_distance": "euclidean", "num_extra_tokens": 2},
    {**ALIBI, "learned_alibi_scale_per_layer": True, "prenet_depth": 2},
    {**ALIBI, "learned_alibi_scale_per_head": True},
    {**ALIBI, "learned_alibi_scale_per_layer": True, "learned_alibi_scale_per_head": True, "layer_norm_first": True},
    {**ALIBI, "num_heads": 6, "embed_dim": 24, "learned_alibi_scale_per_head": True},
    {**ALIBI, "num_alibi_heads": 2, "learned_alibi_scale_per_head": True, "learned_alibi_scale_per_layer": True},
]


def images_for(settings: object, batch: int = 2) -> Tensor:
    assert isinstance(settings, ImageSettings)
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, settings.in_chans, settings.input_size, settings.input_size, generator=generator)


def make(tmp_path: Path, **changes: object) -> tuple[Data2Vec2, dict, Tensor]:
    checkpoint = make_checkpoint(**changes)
    network = load_data2vec2(write_checkpoint(tmp_path / "tiny.pt", checkpoint))
    return network, checkpoint, images_for(network.settings)


@pytest.mark.parametrize("changes", FLAGS, ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_equals_the_explicit_formulation(tmp_path: Path, changes: dict, padded: bool) -> None:
    network, checkpoint, images = make(tmp_path, **changes)
    padding = None
    if padded:
        padding = torch.zeros(2, network.encoder.local_encoder(images).shape[1], dtype=torch.bool)
        padding[1, -2:] = True
    output = network(images, padding)
    tokens, results, _ = reference(checkpoint, images, padding)
    assert len(output.layer_results) == network.settings.depth  # none of the prenet's
    for ours, theirs in zip([output.tokens, *output.layer_results], [tokens, *results], strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_every_flag_changes_the_result(tmp_path: Path) -> None:
    """Otherwise the comparison above could pass with the flag ignored on both sides."""
    plain = make_checkpoint(**ALIBI)
    changes = {"layer_norm_first": True, "use_alibi_encoder": False, "norm_eps": 1e-1, "alibi_dims": 1}
    for name, value in {**changes, "alibi_distance": "euclidean", "num_alibi_heads": 3}.items():
        other = make_checkpoint(**{**ALIBI, name: value})
        other["model"].update({key: t for key, t in plain["model"].items() if key in other["model"]})
        a, b = (load_data2vec2(write_checkpoint(tmp_path / "a.pt", checkpoint)) for checkpoint in (plain, other))
        images = images_for(a.settings)
        assert (a(images).tokens - b(images).tokens).abs().max() > 1e-3, name


def test_norm_first_doubles_the_mlps_output(tmp_path: Path) -> None:
    network, _, images = make(tmp_path, layer_norm_first=True)
    x, bias = network.encoder(images)
    output, result = network.blocks[0](x, bias.for_layer(1))
    assert torch.equal(output, 2 * result)
    assert network.encoder.context_encoder.norm is None and network.norm is not None


def test_targets_are_normalised_in_order(tmp_path: Path) -> None:
    """Against torch's own batch, instance and layer norm, for all 32 combinations of the flags."""
    network, _, _ = make(tmp_path)
    results = [torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(i)) * (i + 1) + i for i in range(3)]
    names = ("batch_norm_target_layer", "instance_norm_target_layer", "layer_norm_target_layer")
    names += ("layer_norm_targets", "instance_norm_targets")
    for flags in itertools.product([False, True], repeat=5):
        settings = dataclasses.replace(network.settings, **dict(zip(names, flags, strict=True)))
        layers = []
        for y in results:
            y = F.batch_norm(y.mT, None, None, training=True).mT if flags[0] else y
            y = F.instance_norm(y.mT).mT if flags[1] else y
            layers.append(F.layer_norm(y, (16,)) if flags[2] else y)
        mean = sum(layers) / 3
        mean = F.layer_norm(mean, (16,)) if flags[3] else mean
        mean = F.instance_norm(mean.mT).mT if flags[4] else mean
        torch.testing.assert_close(
            layer_mean(results, settings.layer_mean), mean, rtol=0, atol=rounding.of_rows(mean), msg=str(flags)
        )


def test_layer_mean_keeps_or_drops_the_extra_tokens(tmp_path: Path) -> None:
    network, _, images = make(tmp_path, num_extra_tokens=2)
    output = network(images)
    with_extra, without = network.layer_mean(output), network.layer_mean(output, keep_extra=False)
    assert with_extra.shape == (2, 11, 16) and without.shape == (2, 9, 16)
    # they are in the statistics over tokens, so the patches' values differ as well
    assert (with_extra[:, 2:] - without).abs().max() > 0.05
    last_two = layer_mean(output.layer_results[-2:], network.settings.layer_mean)
    assert torch.equal(with_extra, last_two)  # average_top_k_layers is 2 of 3
    assert torch.equal(
        network.layer_mean(output, num_layers=3), layer_mean(output.layer_results, network.settings.layer_mean)
    )
    with pytest.raises(BadInput, match="num_layers"):
        network.layer_mean(output, num_layers=0)


def test_autocast_changes_little_and_targets_stay_float32(tmp_path: Path) -> None:
    network, _, images = make(tmp_path, **ALIBI, depth=1, prenet_depth=1)
    exact = network(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images)
        assert output.layer_results[0].dtype == torch.bfloat16
        assert network.layer_mean(output).dtype == torch.float32
    assert F.cosine_similarity(output.tokens, exact.tokens, dim=-1).min() > 0.99


def test_padding_hides_the_keys_and_keeps_the_rows(tmp_path: Path) -> None:
    network, _, images = make(tmp_path)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    plain = network(images).tokens
    torch.testing.assert_close(network(images, padding).tokens, plain, rtol=0, atol=rounding.of_rows(plain))
    padding[:, 8] = True
    changed = images.clone()
    changed[..., 8:, 8:] += 1.0  # the last patch
    a, b = network(images, padding).tokens, network(changed, padding).tokens
    assert torch.equal(a[:, :9], b[:, :9]) and a.isfinite().all()
    assert not torch.allclose(a[:, 9], b[:, 9]) and not torch.allclose(a, network(images).tokens)


def test_alibi_slopes() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    expected = [2 ** (-8 * i / 8) for i in range(1, 9)] + [2 ** (-8 * i / 16) for i in (1, 3, 5, 7)]
    assert alibi_slopes(12).tolist() == pytest.approx(expected)
    assert alibi_slopes(1).tolist() == [2.0**-8]
    assert len(alibi_slopes(6)) == 6


def test_alibi_distances_and_extra_tokens() -> None:
    assert token_distances(3, dims=1).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    manhattan, euclidean = (token_distances(9, 2, name) for name in ("manhattan", "euclidean"))
    assert manhattan[0, 8] == 4 and manhattan[2, 6] == 4 and manhattan[1, 3] == 2
    assert euclidean[0, 8] == pytest.approx(math.sqrt(8)) and euclidean[3, 5] == 2
    bias = alibi_bias(manhattan, num_heads=4, num_extra_tokens=2)
    assert bias.shape == (1, 4, 11, 11)
    assert not bias[:, :, :2].any() and not bias[..., :2].any()
    assert torch.equal(bias[0, :, 2:, 2:], -alibi_slopes(4)[:, None, None] * manhattan)
    with pytest.raises(BadInput, match="square grid of patches, found 8 tokens"):
        token_distances(8, dims=2)


def test_alibi_scales_below_zero_count_as_zero(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**ALIBI, learned_alibi_scale_per_layer=True)
    outputs = []
    for value in (-3.0, 0.0, 3.0):
        checkpoint["model"][f"{IMAGE}alibi_scale"] = torch.full((4, 1, 1, 1, 1), value)
        network = load_data2vec2(write_checkpoint(tmp_path / "tiny.pt", checkpoint))
        outputs.append(network(images_for(network.settings)).tokens)
    assert torch.equal(outputs[0], outputs[1]) and not torch.allclose(outputs[1], outputs[2])


def test_sine_positions_entry_by_entry() -> None:
    side, dim = 3, 8
    table = sine_positions(side, dim)
    assert table.shape == (1, 9, 8)
    for i, channel in itertools.product(range(side * side), range(dim)):
        place = i % side if channel < 4 else i // side
        angle = place * 10000 ** (-(channel % 2) / 2)
        wave = math.sin if channel % 4 < 2 else math.cos
        assert table[0, i, channel].item() == pytest.approx(wave(angle), abs=1e-6)


@pytest.mark.parametrize("changes", [{}, {**ALIBI, "learned_alibi_scale_per_layer": True}, {"layer_norm_first": True}])
def test_first_blocks_are_a_trainable_copy(tmp_path: Path, changes: dict) -> None:
    teacher, _, images = make(tmp_path, **changes)
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    student = teacher.first_blocks(2)
    for a, b in zip(student(images).layer_results, teacher(images).layer_results[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=rounding.of_rows(b))
    assert student.training and all(parameter.requires_grad for parameter in student.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = student.layer_mean(student(images)).square().mean() + student(images).tokens.float().mean()
    loss.backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    torch.optim.SGD(student.parameters(), lr=1.0).step()
    assert all(torch.equal(before[key], tensor) for key, tensor in teacher.state_dict().items())
    # what an export writes down is enough to build it again
    assert student.encoder.settings == student.settings == dataclasses.replace(teacher.settings, depth=2)
    rebuilt = build_image_network(ImageSettings(**json.loads(json.dumps(dataclasses.asdict(student.settings)))))
    rebuilt.load_state_dict(student.state_dict())
    tokens = student(images).tokens
    torch.testing.assert_close(rebuilt.eval()(images).tokens, tokens, rtol=0, atol=rounding.of_rows(tokens))
    with pytest.raises(BadInput, match="expected 1 to 3"):
        teacher.first_blocks(4)


def test_alibi_scale_is_trained_only_if_learned(tmp_path: Path) -> None:
    fixed, learned = (make(tmp_path, use_alibi_encoder=True, learned_alibi_scale=flag)[0] for flag in (False, True))
    assert "encoder.alibi_scale" in fixed.state_dict() and "encoder.alibi_scale" in learned.state_dict()
    assert "encoder.alibi_scale" not in dict(fixed.first_blocks(1).named_parameters())
    assert "encoder.alibi_scale" in dict(learned.first_blocks(1).named_parameters())


def test_train_mode_computes_the_same(tmp_path: Path) -> None:
    network, _, images = make(tmp_path, encoder_dropout=0.5, attention_dropout=0.5, layerdrop=0.5)
    evaluated = network(images).tokens
    assert torch.equal(network.train()(images).tokens, evaluated)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    network, _, _ = make(tmp_path)
    with pytest.raises(BadInput, match="takes images of 3x12x12, found 3x16x12"):
        network(torch.zeros(1, 3, 16, 12))


IMPOSSIBLE = [{"depth": 0}, {"prenet_depth": -1}, {"num_heads": 0}, {"norm_eps": 0.0}, {"input_size": 3}]
IMPOSSIBLE += [{"embed_dim": 15}, {"alibi_dims": 3}, {"alibi_distance": "chess"}, {"num_alibi_heads": 5}]


@pytest.mark.parametrize("changes", [*IMPOSSIBLE, {"learned_alibi": True}], ids=str)
def test_impossible_settings_are_refused(tmp_path: Path, changes: dict) -> None:
    network, _, _ = make(tmp_path, **ALIBI)
    with pytest.raises(BadInput, match=f"setting {next(iter(changes))}: expected"):
        dataclasses.replace(network.settings, **changes)
