"""Checkpoints as trainers write them: the right weights under the right names, and what is said of the choice."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from extract.networks import build_network
from extract.networks.state_dict import parse_state_dict, read_state_dict
from extract.networks.weight_sets import common_prefix
from extract.teachers import load_teacher
from extract.teachers.base import sha256_of_state
from extract.teachers.data2vec2 import load_data2vec2
from shards.errors import BadInput
from tests.extract.test_beitv2 import official_tensors
from tests.extract.test_data2vec2_writer import make_checkpoint, write_checkpoint
from tests.extract.test_hugging_face_teachers import write_model

PLAIN = {"stem.weight": torch.tensor([1.0, 2.0]), "head.bias": torch.tensor([3.0])}
AVERAGE = {name: tensor + 10 for name, tensor in PLAIN.items()}


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "file.pth")
    return folder / "file.pth"


def same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "network.", "backbone.", "student.", "any_name.", "module._orig_mod."]
)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_common_prefix_is_taken_off_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str, wrapper: str | None
) -> None:
    state = under(prefix, PLAIN)
    path = saved(tmp_path, state if wrapper is None else {"epoch": 3, wrapper: state})
    assert same(read_state_dict(path), PLAIN)
    assert capsys.readouterr().err == f"{path}: taking the prefix {prefix} off the names of its tensors\n"


def test_what_has_no_common_prefix_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert same(read_state_dict(saved(tmp_path, PLAIN)), PLAIN)
    assert capsys.readouterr().err == ""
    assert common_prefix(dict.fromkeys(["a.b.weight", "a.bias"])) == "a."
    assert common_prefix(dict.fromkeys(["abc.weight", "abd.weight"])) == ""
    assert common_prefix(dict.fromkeys(["head.weight", "head"])) == ""


FILES: dict[str, tuple[Any, str | None, dict[str, str]]] = {
    "torchvision": ({"model": PLAIN, "model_ema": AVERAGE}, "model", {"ema": "model_ema"}),
    "timm": ({"epoch": 1, "state_dict": PLAIN, "state_dict_ema": AVERAGE}, "state_dict", {"ema": "state_dict_ema"}),
    "nested": ({"model": PLAIN, "ema": {"decay": 0.9, "shadow": AVERAGE}}, "model", {"ema": "ema.shadow"}),
    "unusual": ({"weights_of_it": PLAIN, "ema": AVERAGE}, "weights_of_it", {"ema": "ema"}),
    "with an optimizer": (
        {"optimizer": {"state": {"a": {"step": torch.ones(1)}}}, "net": PLAIN, "EMA": AVERAGE},
        "net",
        {"ema": "EMA"},
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_of_several_sets_one_is_taken_and_said_and_the_others_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    content, usual, names = FILES[kind]
    path = saved(tmp_path, content)
    assert same(read_state_dict(path), PLAIN)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"taking {usual} (--weights FILE:key=NAME takes another)" in said
    assert all(name in said for name in names.values())
    for key in (*names, *names.values()):
        assert same(read_state_dict(path, key), AVERAGE)
    assert same(read_state_dict(path, usual), PLAIN)
    assert capsys.readouterr().err == ""


def test_sets_without_a_usual_name_are_to_be_named(tmp_path: Path) -> None:
    path = saved(tmp_path, {"student": PLAIN, "teacher": under("module.backbone.", AVERAGE)})
    with pytest.raises(
        BadInput, match=r"several sets of weights \(student, teacher\); name one with --weights FILE:key=NAME$"
    ):
        read_state_dict(path)
    assert same(read_state_dict(path, "teacher"), AVERAGE)
    with pytest.raises(BadInput, match=r"--weights FILE:key=ema: the file holds student, teacher; name one of them"):
        read_state_dict(path, "ema")


def test_a_module_of_two_networks_is_split_by_its_names(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": under("model.", PLAIN) | under("ema_model.", AVERAGE)})
    for key, expected in (("model", PLAIN), ("ema_model", AVERAGE), ("ema", AVERAGE)):
        assert same(read_state_dict(path, key), expected)
    with pytest.raises(BadInput, match=r"--weights FILE:key=nosuch: the file holds state_dict"):
        read_state_dict(path, "nosuch")


def test_torchs_own_average_of_a_module(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(stem=nn.Linear(2, 3), head=nn.Linear(3, 1)))
    path = saved(tmp_path, {"model": network.state_dict(), "model_ema": AveragedModel(network).state_dict()})
    assert same(read_state_dict(path, "ema"), network.state_dict())


def test_safetensors_are_read_with_their_own_names_or_without_a_prefix(tmp_path: Path) -> None:
    save_file(under("_orig_mod.", PLAIN), tmp_path / "file.safetensors")
    data = (tmp_path / "file.safetensors").read_bytes()
    assert same(parse_state_dict(data, "file"), under("_orig_mod.", PLAIN))
    assert same(read_state_dict(tmp_path / "file.safetensors"), PLAIN)


@pytest.mark.slow
def test_resnets_take_any_of_them(tmp_path: Path) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(build_network("resnet18", 5).state_dict())
    path = saved(tmp_path, {"model": under("module.", states[0]), "model_ema": under("module.", states[1])})
    for key, state in ((None, states[0]), ("ema", states[1]), ("model_ema", states[1])):
        teacher = load_teacher("resnet18", str(path), image_size=32, weights_key=key)
        assert teacher.weights_sha256 == sha256_of_state(state)
    two = saved(tmp_path, under("student.", states[0]) | under("teacher.", states[1]))
    with pytest.raises(
        BadInput, match=r"its tensors are parts of student, teacher: --weights FILE:key=NAME takes one of them$"
    ):
        load_teacher("resnet18", str(two), image_size=32)
    assert load_teacher("resnet18", str(two), 32, "teacher").weights_sha256 == sha256_of_state(states[1])


def test_beitv2_takes_them_too(tmp_path: Path) -> None:
    plain = load_teacher("beitv2", str(saved(tmp_path, {"model": official_tensors()})))
    average = {
        name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in official_tensors().items()
    }
    path = saved(tmp_path, {"model": under("backbone.", official_tensors()), "model_ema": average})
    assert load_teacher("beitv2", str(path)).weights_sha256 == plain.weights_sha256
    assert load_teacher("beitv2", str(path), weights_key="ema").weights_sha256 != plain.weights_sha256


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_data2vec2_takes_a_prefix_off(tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str) -> None:
    checkpoint = make_checkpoint()
    plain = {key: load_data2vec2(write_checkpoint(tmp_path / "a.pt", checkpoint), key) for key in ("student", "ema")}
    model = checkpoint["model"]
    average = under(prefix, model.pop("_ema"))
    file = write_checkpoint(tmp_path / "b.pt", {**checkpoint, "model": {**under(prefix, model), "_ema": average}})
    for key, network in plain.items():
        assert same(load_data2vec2(file, key).state_dict(), network.state_dict())
    assert f"{file}: taking the prefix {prefix} off" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "module.backbone."])
def test_an_encoder_of_the_hub_has_one_identity_with_and_without_a_prefix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str
) -> None:
    write_model(tmp_path)
    plain = load_teacher(f"hf:{tmp_path}")
    assert "prefix" not in capsys.readouterr().err
    weights = tmp_path / "model.safetensors"
    save_file(under(prefix, load_file(weights)), weights, metadata={"format": "pt"})
    other = load_teacher(f"hf:{tmp_path}")
    assert f"taking the prefix {prefix} off the names" in capsys.readouterr().err
    assert other.weights_sha256 == plain.weights_sha256
    size = plain.inputs.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(other.network(images)["tokens"], plain.network(images)["tokens"])


def test_an_encoder_of_the_hub_from_a_file_of_two_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path)
    plain = load_teacher(f"hf:{tmp_path}")
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    average = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": state, "model_ema": under("module.", average)}, tmp_path / "pytorch_model.bin")
    assert load_teacher(f"hf:{tmp_path}").weights_sha256 == plain.weights_sha256
    assert capsys.readouterr().err.count("holds the weights model, model_ema: taking model") == 1
    assert load_teacher(f"hf:{tmp_path}", weights_key="ema").weights_sha256 == sha256_of_state(average)
