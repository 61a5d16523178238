"""Layer-wise learning-rate decay, on the names of every kind of network there is."""

import pytest
import torch
from torch import nn

from evaluate.tasks.finetune import Classifier
from evaluate.training import decayed_groups, layer_ids
from extract.networks import build_network
from extract.networks.data2vec2 import NamedOutputs, build_image_network
from extract.networks.data2vec2.settings import read_image_settings
from tests.extract.test_data2vec2_writer import make_config


def classifier(architecture: str, **arguments: int) -> Classifier:
    return Classifier(build_network(architecture, 10, **arguments), 8, 4)


def dense(prenet_depth: int = 1) -> Classifier:
    settings = read_image_settings(make_config(depth=3, prenet_depth=prenet_depth))
    return Classifier(NamedOutputs(build_image_network(settings)).only(["pooled"]), 16, 4)


def ids(network: nn.Module) -> dict[str, int]:
    return layer_ids(name for name, _ in network.named_parameters())


@pytest.mark.parametrize("prenet_depth", [0, 1, 2])
def test_data2vec2_counts_its_blocks_from_the_prenet_on(prenet_depth: int) -> None:
    found = ids(dense(prenet_depth))
    blocks = "backbone.network.blocks."
    for name, layer in found.items():
        if name.startswith("backbone.network.encoder.context_encoder.blocks."):
            assert layer == int(name.split(".")[5]) + 1
        elif name.startswith(blocks):
            assert layer == int(name.split(".")[3]) + prenet_depth + 1
        elif name.startswith("backbone.network.encoder."):  # patches, CLS and the norm before the blocks
            assert layer == 0
        else:
            assert name.startswith("head.") and layer == 3 + prenet_depth + 1
    assert sorted(set(found.values())) == list(range(3 + prenet_depth + 2))


def test_cnn_stages_count_as_layers() -> None:
    found = ids(classifier("resnet18"))
    assert found["backbone.conv1.weight"] == found["backbone.bn1.bias"] == 0
    assert [found[f"backbone.layer{stage}.1.conv2.weight"] for stage in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert found["backbone.fc.weight"] == found["head.0.weight"] == found["head.1.bias"] == 5
    found = ids(classifier("resnet8", width=2))
    assert found["backbone.stem.0.weight"] == 0 and found["backbone.blocks.2.norm2.weight"] == 3
    assert found["head.1.weight"] == 4


def test_without_blocks_nothing_decays() -> None:
    network = classifier("convnet", width=2, depth=3)
    assert set(ids(network).values()) == {0}
    assert {group["peak_lr"] for group in decayed_groups(network, 0.1, 0.01, 0.5)} == {0.1}


def test_names_of_other_libraries() -> None:
    names = ["embeddings.cls_token", "encoder.layer.0.mlp.weight", "encoder.layer.1.mlp.weight", "norm.weight"]
    assert list(layer_ids(names).values()) == [0, 1, 2, 3]
    names = [
        "patch_embed.weight",
        "layers.0.attention.weight",
        "bridge.weight",
        "layers.1.attention.weight",
        "out.bias",
    ]
    assert list(layer_ids(names).values()) == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("network", [dense(), classifier("resnet18")], ids=["data2vec2", "resnet18"])
def test_every_parameter_has_the_rate_and_weight_decay_of_the_protocol(network: Classifier) -> None:
    groups = decayed_groups(network, 1e-3, 0.05, 0.75)
    found = {parameter: group for group in groups for parameter in group["params"]}
    layers = ids(network)
    assert sum(len(group["params"]) for group in groups) == len(found) == len(layers)
    for name, parameter in network.named_parameters():
        group = found[parameter]
        assert group["peak_lr"] == pytest.approx(1e-3 * 0.75 ** (max(layers.values()) - layers[name]))
        assert group["weight_decay"] == (0.0 if parameter.ndim == 1 or "extra_tokens" in name else 0.05), name
    torch.optim.AdamW(groups)  # as torch takes them
