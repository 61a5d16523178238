"""Networks of `timm` that are none: wrong files, sizes and names, folders that describe nothing or would run code."""

import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from test_timm_teachers import hub_folder, network, write

from extract.teachers import load_teacher
from shards.errors import BadInput, SourceUnavailable, UnknownName


@pytest.mark.slow
def test_wrong_files_and_sizes_are_named(tmp_path: Path) -> None:
    wider = write(tmp_path / "wider.safetensors", network(embed_dim=72))
    message = r"wider\.safetensors: not the weights of timm:test_vit: .* mis-shaped \(cls_token expected \(1, 1, 64\), "
    with pytest.raises(BadInput, match=message + r"found \(1, 1, 72\)"):
        load_teacher("timm:test_vit", str(wider))
    with pytest.raises(BadInput, match=r"--teacher timm:test_vit: .*50.*give"):
        load_teacher("timm:test_vit", str(write(tmp_path / "w.safetensors", network())), image_size=50)
    with pytest.raises(BadInput, match=r"nowhere\.pth: no such file"):
        load_teacher("timm:test_vit", str(tmp_path / "nowhere.pth"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"empty: holds no model\.safetensors"):
        load_teacher("timm:test_vit", str(tmp_path / "empty"))


def test_unknown_names_have_near_ones() -> None:
    for spec, near in (
        ("timm:resnet500", "resnet50"),
        ("timm:resnet50.a1_in2k", r"resnet50\.a1_in1k"),
        ("timm:", "known are"),
    ):
        with pytest.raises(UnknownName, match=f"unknown network of timm .*{near}") as error:
            load_teacher(spec)
        assert len(str(error.value)) < 200


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("it-was-run",)


def test_nothing_that_a_folder_says_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = hub_folder(tmp_path / "model", network("test_resnet"), {})
    document = json.loads((folder / "config.json").read_bytes())
    torch.save({"fc.weight": Hostile()}, tmp_path / "evil.pth")
    for name, value in (("checkpoint_path", "evil.pth"), ("pretrained", True), ("features_only", True)):
        (folder / "config.json").write_text(json.dumps(document | {"model_args": {name: value}}))
        with pytest.raises(BadInput, match=f"{name} is no argument of a network"):
            load_teacher(f"timm:{folder}")
    with pytest.raises(BadInput, match="which may run code"):
        load_teacher("timm:test_resnet", "evil.pth")
    assert not Path("it-was-run").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("{", "expected timm's, with architecture and pretrained_cfg"),
        ({"architecture": "resnet5000"}, "unknown network of timm 'resnet5000'"),
        ({"architecture": "test_resnet", "model_args": {"no_such": 1}}, "cannot build it with .*no_such"),
        ({"architecture": "test_resnet", "pretrained_cfg": {"mean": "red"}}, "mean is missing or cannot be"),
        ({"architecture": "test_resnet", "pretrained_cfg": {"input_size": [1, 8, 8]}}, "found 1 channels of 8 x 8"),
        ({"architecture": "test_resnet", "pretrained_cfg": {"input_size": 8}}, "gives no input_size"),
        ({"model_type": "vit"}, "KeyError.*architecture"),
    ],
)
def test_folders_that_describe_no_network(tmp_path: Path, changed: Any, message: str) -> None:
    folder = hub_folder(tmp_path / "model", network("test_resnet"), {})
    (folder / "config.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(BadInput, match=message) as error:
        load_teacher(f"timm:{folder}")
    assert "\n" not in str(error.value)


def test_offline_the_file_and_the_flag_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    file = r"https://huggingface\.co/timm/resnet50\.a1_in1k/resolve/main/model\.safetensors"
    with pytest.raises(SourceUnavailable, match=rf"out of reach .*download {file} elsewhere and give --weights FILE"):
        load_teacher("timm:resnet50.a1_in1k")
    with pytest.raises(SourceUnavailable, match=r"lacks nobody/no-model: .*give --teacher timm:DIR"):
        load_teacher("timm:nobody/no-model")
    with pytest.raises(BadInput, match=r"timm has no weights of that name; give --weights FILE"):
        load_teacher("timm:test_vit4")
