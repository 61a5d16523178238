"""Checkpoints are data: no code of theirs runs, whatever their pickle names; damaged files are refused in one line."""

import argparse
import collections
import enum
import os
import sys
import types
import typing
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.networks.data2vec2.unpickle import read_checkpoint
from extract.teachers.data2vec2 import load_data2vec2
from tests.extract.test_data2vec2_checkpoint import refused
from tests.extract.test_data2vec2_writer import make_checkpoint, write_checkpoint


class Call:
    """Pickled as a call of `function`: whoever unpickles it naively makes the call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("name", ["posix.mkdir", "builtins.eval", "builtins.getattr", "pathlib.Path", "io.open"])
def test_code_is_named_and_never_run(tmp_path: Path, name: str, new_format: bool) -> None:
    trap = tmp_path / "made_by_the_pickle"
    calls = {
        "posix.mkdir": Call(os.mkdir, str(trap)),
        "builtins.eval": Call(eval, f"__import__('os').mkdir({str(trap)!r})"),
        "builtins.getattr": Call(getattr, "text", "upper"),
        "pathlib.Path": Call(Path, str(trap)),
        "io.open": Call(open, str(trap), "w"),
    }
    file = tmp_path / "evil.pt"
    for place in ("cfg", "last_optimizer_state"):
        torch.save({**make_checkpoint(), place: calls[name]}, file, _use_new_zipfile_serialization=new_format)
        message = refused(file, "refused, its pickle names")
        # io.open is pickled under its true name; a legacy file's message leaves "builtins." out
        assert any(part in message for part in (name, name.removeprefix("builtins."), "_io.open"))
        assert "weights_only" not in message
    assert not trap.exists()


@pytest.fixture
def fake_packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Classes that pickle under the names of omegaconf and fairseq, whose code fails the test when it runs."""

    class Modality(enum.Enum):
        AUDIO, IMAGE, TEXT = 1, 2, 3

    def trapped(_self: object, _state: object) -> None:
        raise AssertionError("code of a checkpoint's class ran")

    names = ["omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.nodes.AnyNode"]
    names += ["omegaconf.nodes.EnumNode", "fairseq.evil.EvilConfig", "fairseq.data.dictionary.Dictionary"]
    classes: list[type] = [type(name.rsplit(".")[-1], (), {"__setstate__": trapped}) for name in names]
    classes.append(Modality)
    for made, name in zip(classes, [*names, "examples.data2vec.data.modality.Modality"], strict=True):
        put(monkeypatch, name, made)
    return {made.__name__: made for made in classes}


def put(monkeypatch: pytest.MonkeyPatch, name: str, made: type) -> None:
    """Make `made` importable, and so picklable, under `name`."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        module = ".".join(parts[:end])
        monkeypatch.setitem(sys.modules, module, sys.modules.get(module, types.ModuleType(module)))
    made.__module__, made.__qualname__ = ".".join(parts[:-1]), parts[-1]
    monkeypatch.setattr(sys.modules[made.__module__], parts[-1], made, raising=False)


def as_omegaconf(value: Any, classes: dict[str, type]) -> Any:
    """The value as omegaconf pickles it: nodes in containers, with their parents."""
    if isinstance(value, dict):
        made: Any = classes["DictConfig"]()
        made.__dict__ = {"_content": {key: as_omegaconf(item, classes) for key, item in value.items()}}
    elif isinstance(value, list):
        made = classes["ListConfig"]()
        made.__dict__ = {"_content": [as_omegaconf(item, classes) for item in value]}
    else:
        made = classes["EnumNode" if isinstance(value, enum.Enum) else "AnyNode"]()
        metadata = {"ref_type": typing.Any, "element_type": typing.Dict[str, int]}  # noqa: UP006
        made.__dict__ = {"_val": value, "_metadata": metadata}
    return made


def test_foreign_classes_load_as_data(tmp_path: Path, fake_packages: dict[str, type]) -> None:
    checkpoint = make_checkpoint()
    expected = load_data2vec2(write_checkpoint(tmp_path / "plain.pt", checkpoint))
    image = checkpoint["cfg"]["model"]["modalities"]["image"]
    image["type"] = fake_packages["Modality"](2)
    image["sizes"] = [1, {"a": 2}]
    evil: Any = fake_packages["EvilConfig"]()
    evil.field = 3
    checkpoint["cfg"]["task"] = {"config": evil}
    counts = collections.defaultdict(dict)
    counts["state"]["step"] = np.float64(1.5)
    hard = {**checkpoint, "cfg": as_omegaconf(checkpoint["cfg"], fake_packages), "args": argparse.Namespace(arch="x")}
    hard |= {"extra_state": {"counts": counts, "dictionary": fake_packages["Dictionary"](), "types": [int, typing.Any]}}
    file = write_checkpoint(tmp_path / "hard.pt", hard)
    names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    assert {"omegaconf.dictconfig.DictConfig", "collections.defaultdict", "argparse.Namespace"} < set(names)
    registered = set(torch.serialization.get_safe_globals())
    network = load_data2vec2(file)
    assert set(torch.serialization.get_safe_globals()) == registered  # nothing stays behind
    assert network.settings == expected.settings
    assert all(torch.equal(t, network.state_dict()[key]) for key, t in expected.state_dict().items())
    config = read_checkpoint(file)["cfg"]
    assert config["model"]["modalities"]["image"] == {**image, "type": "IMAGE"}
    assert config["task"] == {"config": {"field": 3}}


def test_a_name_near_the_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("omegaconf.dictconfig.Evil", "fairseq.tasks.evil.run", "numpy.dtype_evil"):
        made = type("Evil", (), {})
        put(monkeypatch, name, made)
        refused(write_checkpoint(tmp_path / "near.pt", {**make_checkpoint(), "args": made()}), f"'{name}'")


@pytest.mark.slow
def test_a_cfg_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    bomb: list[Any] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    file = write_checkpoint(tmp_path / "bomb.pt", {**make_checkpoint(), "cfg": {"model": bomb}})
    refused(file, "not a PyTorch checkpoint")
    bomb.append(bomb)
    refused(write_checkpoint(file, {**make_checkpoint(), "cfg": {"model": bomb}}), "not a PyTorch checkpoint")


def test_the_format_before_zip_archives_loads(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    file = tmp_path / "legacy.pt"
    torch.save(checkpoint, file, _use_new_zipfile_serialization=False)
    network = load_data2vec2(file)
    assert torch.equal(network.blocks[0].norm1.weight, checkpoint["model"]["blocks.0.norm1.weight"])


def test_a_truncated_file_is_refused_at_any_length(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path / "whole.pt").read_bytes()
    file = tmp_path / "part.pt"
    for share in (0, 0.001, 0.1, 0.5, 0.9, 0.999):
        file.write_bytes(whole[: int(len(whole) * share)])
        refused(file, "not a PyTorch checkpoint, or a truncated one", "download it again")


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    for content in (b"<html>404</html>", b"\xff\xd8\xff\xe0" + bytes(1000), b"\x80\x02}q\x00.", os.urandom(5000)):
        file.write_bytes(content)
        refused(file, "not a PyTorch checkpoint")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(file, "not a PyTorch checkpoint")
    tiny = zipfile.ZipFile(write_checkpoint(tmp_path / "tiny.pt"))
    with tiny, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in tiny.namelist():
            archive.writestr(member, tiny.read(member))
    refused(file, "its archive is compressed")
    refused(tmp_path / "absent.pt", "no such file")
    refused(tmp_path, "no such file")
