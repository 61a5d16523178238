"""Every tensor of fairseq's own forward, of small networks that fairseq 3d262bb itself made, saved and ran.

tests/extract/golden/: image_public (2 prenet and 4 shared blocks; also in an awkward pickle, with omegaconf nodes,
numpy scalars and dataclasses), image_prenet0 (the layout that the released files seem to have) and text_public (4
texts of 14, 11, 5 and 2 tokens, padded); student and EMA weights are drawn apart so that every detail shows.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from extract.networks.data2vec2 import Data2Vec2, Data2Vec2Output, TextSettings, named
from extract.networks.data2vec2.image import sine_positions
from extract.teachers.data2vec2 import load, load_data2vec2
from shards.errors import BadInput

CASES = [("image_public", "image_public"), ("image_prenet0", "image_prenet0")]
CASES += [("image_public_hardpickle", "image_public"), ("text_public", "text_public")]


@pytest.fixture
def golden() -> Path:
    return Path(__file__).parent / "golden"


def run(
    network: Data2Vec2, source: torch.Tensor, padding: torch.Tensor | None = None
) -> tuple[Data2Vec2Output, dict[str, torch.Tensor]]:
    """The output, and what the modules inside gave, by the golden files' names."""
    seen: dict[str, torch.Tensor] = {}

    def keep(module: torch.nn.Module, name: str) -> None:
        module.register_forward_hook(
            lambda _module, _inputs, output: seen.update({name: output[0] if isinstance(output, tuple) else output})
        )

    encoder = network.encoder
    keep(encoder.local_encoder, "local_features")
    keep(encoder.context_encoder, "context_out")
    if encoder.context_encoder.norm is not None:
        keep(encoder.context_encoder.norm, "context_norm_out")
    for i, block in enumerate(encoder.context_encoder.blocks):
        keep(block, f"prenet_out_{i}")
    for i, block in enumerate(network.blocks):
        keep(block, f"block_out_{i}")
    with torch.no_grad():
        return network(source, padding_mask=padding), seen


def of_golden(network: Data2Vec2, source: np.ndarray, padding: np.ndarray | None = None) -> dict[str, torch.Tensor]:
    """Every tensor that a golden file has of one set of weights."""
    mask = None if padding is None else torch.from_numpy(padding)
    output, ours = run(network, torch.from_numpy(source), mask)
    ours["x"] = output.tokens
    ours["x_no_extra"] = output.tokens[:, network.settings.num_extra_tokens :]
    for i, result in enumerate(output.layer_results):
        ours[f"layer_result_{i}"] = result
    ours["y"] = network.layer_mean(output, keep_extra=False)
    ours["y_all_tokens"] = network.layer_mean(output, keep_extra=True)
    return ours


def assert_equal(ours: dict[str, torch.Tensor], expected: np.lib.npyio.NpzFile, prefix: str) -> None:
    names = {name.removeprefix(f"{prefix}.") for name in expected if name.startswith(f"{prefix}.")}
    assert set(ours) == names - {"padding_mask_out"}  # which repeats the input
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, expected[f"{prefix}.{name}"], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("weights", ["student", "ema"])
@pytest.mark.parametrize(("checkpoint", "values"), CASES)
def test_every_tensor_of_fairseqs_forward(golden: Path, checkpoint: str, values: str, weights: str) -> None:
    expected = np.load(golden / f"{values}.npz")
    network = load_data2vec2(golden / f"{checkpoint}.pt", weights=weights)
    ours = of_golden(network, expected["source"], expected.get("padding_mask"))
    if weights == "ema":  # what fairseq's training forward computed
        ours["y_train"] = ours["y"]
        for i in range(network.settings.depth):
            ours[f"layer_result_no_extra_{i}"] = ours[f"layer_result_{i}"][:, network.settings.num_extra_tokens :]
    assert_equal(ours, expected, weights)


def test_a_text_without_padding_needs_no_mask(golden: Path) -> None:
    expected = np.load(golden / "text_public.npz")
    ours = of_golden(load_data2vec2(golden / "text_public.pt"), expected["nopad_source"])
    assert_equal(ours, expected, "student_nopad")


def test_text_outputs_by_name_are_fairseqs(golden: Path) -> None:
    """layer_mean is fairseq's target, whose statistics count the padding."""
    expected = np.load(golden / "text_public.npz")
    network = named(load_data2vec2(golden / "text_public.pt", weights="ema"))
    valid = ~expected["padding_mask"]
    with torch.no_grad():
        outputs = network(torch.from_numpy(expected["source"]), torch.from_numpy(valid))
    x = expected["ema.x"]
    pooled = np.stack([rows[inside].mean(0) for rows, inside in zip(x, valid, strict=True)])
    for name, values in {"layer_mean": expected["ema.y_train"], "tokens": x}.items():
        np.testing.assert_allclose(outputs[name], values, rtol=0, atol=1e-5)
    for name, values in {"cls": x[:, 0], "pooled": pooled}.items():
        np.testing.assert_allclose(outputs[name], values, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("checkpoint", "depths"), [("image_public", (2, 4)), ("image_prenet0", (0, 4))])
def test_settings_come_from_the_cfg(golden: Path, checkpoint: str, depths: tuple[int, int]) -> None:
    """A wrong eps would hide below the tolerance, so it is read off the modules."""
    network = load_data2vec2(golden / f"{checkpoint}.pt")
    norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert (network.settings.prenet_depth, network.settings.depth) == depths
    assert len(norms) == 1 + 2 * sum(depths)
    assert {norm.eps for norm in norms} == {1e-6} == {network.settings.norm_eps}


def test_hard_pickle_holds_the_same_network(golden: Path) -> None:
    easy, hard = (load_data2vec2(golden / f"image_public{suffix}.pt") for suffix in ("", "_hardpickle"))
    assert easy.settings == hard.settings
    for (name, a), b in zip(easy.state_dict().items(), hard.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_stored_positions_are_the_sine_table(golden: Path) -> None:
    network = load_data2vec2(golden / "image_public.pt")
    assert network.encoder.positions is not None
    assert torch.equal(network.encoder.positions, sine_positions(4, 40))


def test_text_settings_come_from_the_cfg_and_the_embedding(golden: Path) -> None:
    settings = load_data2vec2(golden / "text_public.pt").settings
    assert isinstance(settings, TextSettings)
    assert (settings.vocab_size, settings.max_source_positions, settings.norm_eps) == (94, 40, 1e-5)


def test_a_text_checkpoint_is_no_image_teacher(golden: Path) -> None:
    with pytest.raises(BadInput, match="image checkpoint, found one for text"):
        load("data2vec2", str(golden / "text_public.pt"), None)
