"""Networks: the contract of every registered one, parity with torchvision, and whose weights fit which."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from extract.networks import architecture_names, build_network
from extract.networks.state_dict import fitting_architectures, load_weights, parse_state_dict, read_state_dict
from shards.errors import BadInput, UnknownName

NETWORKS = [
    pytest.param(name, marks=pytest.mark.slow) if name in {"resnet34", "resnet50", "resnet101", "resnet152"} else name
    for name in architecture_names()
]
CONFIG = {
    "architecture": "resnet8",
    "arguments": {"width": 4},
    "num_classes": 3,
    "image_size": 16,
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 0.5, 0.5],
    "class_names": ["a", "b", "c"],
}


def trained(architecture, num_classes=3, **arguments):
    """A network in eval mode whose batch statistics are not the initial ones."""
    torch.manual_seed(7)
    network = build_network(architecture, num_classes, **arguments)
    network(torch.randn(4, 3, 48, 48))
    return network.eval()


@pytest.mark.parametrize("architecture", [*NETWORKS, "timm:test_resnet", "timm:mobilenetv4_conv_small"])
def test_contract(architecture):
    network = trained(architecture, num_classes=5)
    images = torch.randn(3, 3, 40, 56)
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
    assert set(together) == {"logits", "pooled"}
    assert together["logits"].shape == (3, 5)
    assert together["pooled"].ndim == 2
    for name, rows in together.items():
        assert torch.isfinite(rows).all()
        torch.testing.assert_close(rows[1:2], alone[name], rtol=1e-4, atol=1e-4)
    # the logits are a function of pooled: nothing else of the image may reach the head
    head = network.network.get_classifier() if architecture.startswith("timm:") else list(network.children())[-1]
    logits = head(together["pooled"])
    torch.testing.assert_close(logits["logits"] if isinstance(logits, dict) else logits, together["logits"])


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "mobilenet_v3_small"])
def test_parity_with_torchvision(architecture):
    ours = trained(architecture, num_classes=11)
    theirs = get_model(architecture, weights=None, num_classes=11)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    entered = []
    head = theirs.fc if hasattr(theirs, "fc") else theirs.classifier
    head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits, outputs = theirs.eval()(images), ours(images)
    assert torch.equal(outputs["logits"], logits)
    assert torch.equal(outputs["pooled"], entered[0])


def test_same_initialisation_as_torchvision():
    torch.manual_seed(3)
    ours = build_network("resnet18", 10).state_dict()
    torch.manual_seed(3)
    theirs = get_model("resnet18", weights=None, num_classes=10).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_cifar_resnets_have_the_papers_parameter_counts():
    # He et al. 2016, Table 6: 0.27M for 20 layers, 0.85M for 56
    for architecture, millions in (("resnet20", 0.27), ("resnet56", 0.85)):
        count = sum(parameter.numel() for parameter in build_network(architecture, 10).parameters())
        assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize("architecture, layers", [("resnet8", 8), ("resnet20", 20), ("resnet56", 56)])
def test_cifar_resnets_have_the_layers_of_their_name(architecture, layers):
    modules = build_network(architecture, 10).modules()
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in modules) == layers


def test_option_a_shortcut_passes_the_input_through():
    from extract.networks.resnet_cifar import ResidualBlock

    block = ResidualBlock(4, 8, stride=2).eval()
    nn.init.zeros_(block.norm2.weight)  # the residual is nought, so the shortcut is all there is
    features = torch.rand(2, 4, 7, 7)
    with torch.no_grad():
        output = block(features)
    assert torch.equal(output[:, :4], features[:, :, ::2, ::2])
    assert not output[:, 4:].any()


def test_arguments_change_the_network():
    images = torch.randn(1, 3, 32, 32)
    assert build_network("resnet8", 2, width=8).eval()(images)["pooled"].shape == (1, 32)
    assert build_network("convnet", 2, width=8, depth=2).eval()(images)["pooled"].shape == (1, 16)
    assert build_network("convnet", 2, width=8, depth=9).eval()(images)["pooled"].shape == (1, 64)


@pytest.mark.parametrize(
    "architecture, arguments, expected",
    [
        ("resnet18", {"width": 3}, "unknown argument 'width'; it takes no arguments"),
        ("convnet", {"widht": 3}, "unknown argument 'widht'; it takes width, depth"),
        ("convnet", {"depth": 0}, "depth 0: expected a whole number"),
        ("convnet", {"depth": 1.5}, "depth 1.5: expected a whole number"),
        ("resnet8", {"width": True}, "width True: expected a whole number"),
        ("resnet8", {"width": 10**9}, "width 1000000000: expected a whole number from 1 to 4096"),
    ],
)
def test_wrong_arguments_are_named(architecture, arguments, expected):
    with pytest.raises(BadInput, match=expected) as error:
        build_network(architecture, 10, **arguments)
    assert "\n" not in str(error.value)


def test_unknown_architecture_lists_near_names():
    with pytest.raises(UnknownName, match=r"did you mean .*resnet18"):
        build_network("resnt18", 10)
    with pytest.raises(BadInput, match="num_classes 0: expected a whole number of at least 1"):
        build_network("resnet18", 0)


def test_registries_do_not_import_torch():
    code = "import sys, extract.networks, extract.teachers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("architecture", NETWORKS)
def test_weights_name_their_architecture(architecture):
    with torch.device("meta"):
        state = build_network(architecture, 7).state_dict()
    assert fitting_architectures(state) == [architecture]


def test_weights_load_without_batch_counters_and_from_half_precision():
    network = trained("resnet8")
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    with torch.device("meta"):
        other = build_network("resnet8", 3)
    load_weights(other, state, "half.pth", "resnet8")
    assert {tensor.dtype for tensor in other.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(other.head.weight, network.head.weight.half().float())


def test_quantised_weights_do_not_fit():
    state = trained("resnet8").state_dict()
    state["head.weight"] = state["head.weight"].to(torch.int8)
    with pytest.raises(BadInput, match=r"mis-shaped \(head.weight expected \(3, 64\), found \(3, 64\) int8\)"):
        load_weights(build_network("resnet8", 3), state, "int8.pth", "resnet8")


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_truncated_and_flipped_files_raise_bad_input_or_load(tmp_path, kind):
    """Whatever the bytes are, the reader ends in tensors or in BadInput, never in another error."""
    from safetensors.torch import save_file

    path = tmp_path / f"weights.{kind}"
    (torch.save if kind == "pth" else save_file)({"a": torch.arange(6.0), "b": torch.ones(2, 2)}, path)
    data = path.read_bytes()
    assert set(read_state_dict(path)) == {"a", "b"}
    for length in range(0, len(data) - 1, 13):
        with pytest.raises(BadInput, match="cut: found"):
            parse_state_dict(data[:length], "cut")
    for position in range(0, len(data), 5):
        flipped = bytearray(data)
        flipped[position] ^= 0x11
        try:
            parse_state_dict(bytes(flipped), "flipped")
        except BadInput as error:
            assert "flipped: " in str(error)
