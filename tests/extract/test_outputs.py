"""Targets by name: what each is made of, and that padding stays out of them where it should."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extract.networks.outputs import BATCH, INSTANCE, LAYER, LayerMean, TokenTargets, layer_mean, standardise

EXTRA, TOKENS, DIM, DEPTH = 2, 5, 8, 3
TARGETS = TokenTargets(EXTRA, {f"layer_{block}": block for block in (1, 2, 3)}, num_averaged=2)


def made(num_tokens: int = TOKENS, batch: int = 3) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(num_tokens)
    rows = [torch.randn(batch, EXTRA + num_tokens, DIM, generator=generator) * 3 + 1 for _ in range(DEPTH + 1)]
    return rows[0], rows[1:]


def mean_of_normed(layers: list[Tensor]) -> Tensor:
    """By torch's own instance norm over the tokens."""
    return torch.stack([F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in layers]).mean(0)


def reference(layers: list[Tensor]) -> Tensor:
    """The mean after torch's own layer norm over the channels."""
    return F.layer_norm(mean_of_normed(layers), (layers[0].shape[-1],))


def test_every_target_is_what_its_name_says() -> None:
    tokens, layers = made()
    expected = {
        "layer_mean": reference(layers[-2:]),
        "layer_mean_no_cls": reference([layer[:, EXTRA:] for layer in layers[-2:]]),
        "layer_mean_no_norm": mean_of_normed(layers[-2:]),
        "tokens": tokens,
        "cls": tokens[:, 0],
        "pooled": tokens[:, EXTRA:].mean(1),
        **{f"layer_{block}": reference(layers[block - 1 : block]) for block in (1, 2, 3)},
    }
    assert TARGETS.names == tuple(expected)
    with torch.no_grad():
        for name, rows in expected.items():
            torch.testing.assert_close(TARGETS.target(name, tokens, layers), rows, rtol=0, atol=1e-5, msg=name)
        every = replace(TARGETS, num_averaged=None).target("layer_mean", tokens, layers)
    torch.testing.assert_close(every, reference(layers), rtol=0, atol=1e-5)
    counts = TARGETS.extra_tokens(TARGETS.names)
    with_cls = ("layer_mean", "layer_mean_no_norm", "tokens", "layer_1", "layer_2", "layer_3")
    assert counts == {"layer_mean_no_cls": 0, **dict.fromkeys(with_cls, 2)}


def test_what_a_network_cannot_give_or_gives_under_another_name_is_no_name() -> None:
    without_blocks = replace(TARGETS, layers={})
    assert set(without_blocks.names) - set(replace(without_blocks, has_cls=False).names) == {"cls"}
    assert set(without_blocks.names) - set(replace(without_blocks, num_extra=0).names) == {"layer_mean_no_cls"}
    plain = replace(without_blocks, mean=LayerMean(of_mean=()))
    assert set(without_blocks.names) - set(plain.names) == {"layer_mean_no_norm"}


@pytest.mark.parametrize("name", TARGETS.names)
def test_padding_changes_no_valid_row(name: str) -> None:
    """Each sample alone, without its padding, has the rows that it has in the padded batch."""
    tokens, layers = made()
    targets = replace(TARGETS, mean=LayerMean(counts_padding=False))
    lengths = [EXTRA + 5, EXTRA + 2, EXTRA + 1]
    valid = torch.arange(EXTRA + TOKENS) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        together = targets.target(name, tokens, layers, valid=valid)
        for sample, length in enumerate(lengths):
            cut = [rows[sample : sample + 1, :length] for rows in (tokens, *layers)]
            alone = targets.target(name, cut[0], cut[1:])[0]
            found = together[sample, : len(alone)] if together.ndim == 3 else together[sample]
            torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)
    assert together.isfinite().all()


def test_padding_counts_in_layer_means_by_default() -> None:
    tokens, layers = made()
    valid = torch.ones(3, EXTRA + TOKENS, dtype=torch.bool)
    valid[:, -2:] = False
    with torch.no_grad():
        plain, masked = (TARGETS.target("layer_mean", tokens, layers, valid=mask) for mask in (None, valid))
        without = replace(TARGETS, mean=LayerMean(counts_padding=False))
        assert torch.equal(plain, masked)
        assert (without.target("layer_mean", tokens, layers, valid=valid) - plain).abs().max() > 0.05
        pooled = TARGETS.target("pooled", tokens, layers, valid=valid)
    torch.testing.assert_close(pooled, tokens[:, EXTRA:-2].mean(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dims", [BATCH, INSTANCE, LAYER])
def test_statistics_are_those_of_the_valid_rows(dims: tuple[int, ...]) -> None:
    x, valid = made()[0], torch.ones(3, EXTRA + TOKENS, dtype=torch.bool)
    torch.testing.assert_close(standardise(x, dims, valid), standardise(x, dims), rtol=0, atol=1e-5)
    valid[0, 3:] = False
    changed = x.clone()
    changed[0, 3:] *= 100  # what is padding has no say
    assert torch.equal(standardise(changed, dims, valid)[valid], standardise(x, dims, valid)[valid])
    rows = standardise(x, dims, valid)[valid]
    if dims == BATCH:
        torch.testing.assert_close(rows.mean(0), torch.zeros(DIM), rtol=0, atol=1e-5)
        torch.testing.assert_close(rows.var(0, correction=0), torch.ones(DIM), rtol=0, atol=1e-4)


def test_a_projection_stands_before_the_last_norm_and_is_trained() -> None:
    tokens, layers = made()
    torch.manual_seed(0)
    project = nn.Linear(DIM, 4)
    layers = [layer.requires_grad_() for layer in layers]
    found = TARGETS.target("layer_mean", tokens, layers, project)
    with torch.no_grad():
        assert torch.equal(TARGETS.target("layer_mean", tokens, layers, project), found)
    instance = [F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in layers[-2:]]
    expected = F.layer_norm(project(torch.stack(instance).mean(0)), (4,))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    parameters = [*project.parameters(), *layers[-2:]]
    gradients = torch.autograd.grad((found * weights).sum(), parameters)
    for gradient, wanted in zip(gradients, torch.autograd.grad((expected * weights).sum(), parameters), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(TARGETS.target("cls", tokens, layers, project), project(tokens[:, 0]))
    assert layer_mean([layers[0].half()], LayerMean()).dtype == torch.float32
