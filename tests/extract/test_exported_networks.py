"""Exported networks: what lies on disk is the network that was trained, and what was damaged is refused in one line."""

import json

import pytest
import torch
from test_networks import CONFIG, trained

from extract.networks import build_network, export_network, load_exported
from shards.errors import BadInput


@pytest.mark.parametrize("architecture, arguments", [("resnet8", {"width": 4}), ("convnet", {}), ("resnet18", {})])
def test_export_round_trip(tmp_path, architecture, arguments):
    network = trained(architecture, **arguments)
    config = {**CONFIG, "architecture": architecture, "arguments": arguments, "recipe": "kd", "mean": (0.1, 0.2, 0.3)}
    export_network(tmp_path / "runs" / "a", network, config)
    loaded, held = load_exported(tmp_path / "runs" / "a")
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert held.items() >= {**config, "mean": [0.1, 0.2, 0.3], "format": 1}.items()
    images = torch.randn(2, 3, 16, 16)
    expected, outputs = network(images), loaded(images)
    assert all(torch.equal(expected[name], outputs[name]) for name in ("logits", "pooled"))


def test_export_is_plain_safetensors_and_reproducible(tmp_path):
    from safetensors import safe_open

    network = trained("resnet8", width=4)
    for run in ("a", "b"):
        export_network(tmp_path / run, network, CONFIG)
    for name in ("student.safetensors", "student.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["student.json", "student.safetensors"]
    with safe_open(tmp_path / "a" / "student.safetensors", "pt") as file:
        assert set(file.keys()) == set(network.state_dict())


def test_export_refuses_a_network_that_its_config_does_not_describe(tmp_path):
    with pytest.raises(BadInput, match="the network to export is no resnet8"):
        export_network(tmp_path, trained("convnet"), CONFIG)
    with pytest.raises(BadInput, match="std is missing or cannot be"):
        export_network(tmp_path, trained("resnet8", width=4), {**CONFIG, "std": [0.5, 0.0, 0.5]})
    with pytest.raises(BadInput, match="1 class_names, but num_classes is 3"):
        export_network(tmp_path, trained("resnet8", width=4), {**CONFIG, "class_names": ["a"]})
    assert not list(tmp_path.iterdir())


def reseal(path, **changes):
    """Alter student.json as somebody would who also knows how it is sealed."""
    from shards.sealed import sealed

    document = json.loads(path.read_bytes())
    del document["sha256"]
    path.write_bytes(sealed({**document, **changes}))


def damage(run_dir, how):
    weights, config = run_dir / "student.safetensors", run_dir / "student.json"
    match how:
        case "no config":
            config.unlink()
        case "no weights":
            weights.unlink()
        case "truncated weights":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "flipped weights":
            data = bytearray(weights.read_bytes())
            data[-7] ^= 1
            weights.write_bytes(data)
        case "truncated config":
            config.write_bytes(config.read_bytes()[:50])
        case "edited config":
            config.write_bytes(config.read_bytes().replace(b"0.1", b"0.4"))
        case "not a number":
            config.write_bytes(config.read_bytes().replace(b"0.1", b"NaN"))
        case "not an object":
            config.write_text("[1]")
        case "enormous mean":
            reseal(config, mean=[10**400, 0, 0])
        case "later format":
            reseal(config, format=2)
        case "foreign architecture":
            reseal(config, architecture="resnet9000")
        case "other architecture":
            reseal(config, architecture="resnet20")
        case "arguments that collide":
            reseal(config, arguments={"architecture": "resnet18"})
        case "enormous network":
            reseal(config, arguments={"width": 4096})


DAMAGES = {
    "no config": "student.json: no such file",
    "no weights": "student.safetensors: expected the weights that student.json names, found no such file",
    "truncated weights": "bytes with another SHA-256",
    "flipped weights": "bytes with another SHA-256",
    "truncated config": "student.json: not JSON",
    "edited config": "its own SHA-256 does not fit",
    "not a number": "student.json: not JSON",
    "not an object": "expected an object, found a list",
    "enormous mean": "mean is missing or cannot be",
    "later format": "expected format 1, found 2",
    "foreign architecture": "unknown architecture 'resnet9000'",
    "other architecture": "not the weights of resnet20",
    "arguments that collide": "arguments cannot be",
    "enormous network": "mis-shaped",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_exports_are_refused(tmp_path, how):
    export_network(tmp_path, trained("resnet8", width=4), CONFIG)
    damage(tmp_path, how)
    with pytest.raises(BadInput, match=DAMAGES[how]) as error:
        load_exported(tmp_path)
    assert "\n" not in str(error.value)


def test_a_second_export_cut_short_is_refused(tmp_path):
    export_network(tmp_path, trained("resnet8", width=4), CONFIG)
    old = (tmp_path / "student.json").read_bytes()
    other = build_network("resnet8", 3, width=4)
    export_network(tmp_path, other, CONFIG)
    (tmp_path / "student.json").write_bytes(old)  # as if killed between the two files
    with pytest.raises(BadInput, match="export the run again"):
        load_exported(tmp_path)
