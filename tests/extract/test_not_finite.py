"""A teacher that says NaN or infinity: the sample, the layer, and that nothing of it is committed."""

from pathlib import Path

import pytest
import torch
from caches import SMALL, command, contents, write_teacher
from PIL import Image

from tests.extract.test_data2vec2_writer import make_checkpoint, write_checkpoint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_that_says_nan_is_refused_by_the_first_sample(tmp_path: Path, value: float) -> None:
    def spoil(network: torch.nn.Module) -> None:
        network.head.bias.data[3] = value  # type: ignore[union-attr]

    teacher = write_teacher(tmp_path / "teacher", change=spoil)
    refused = command("extract", "--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    refused.refuses("logits of digit-0000 holds NaN or infinity, first in head; nothing of this shard", "--precision")
    assert not list((tmp_path / "cache").rglob("targets/*/commits/*"))
    assert not list((tmp_path / "cache").rglob("targets/*/values/c/*"))


def test_the_one_sample_that_overflows_is_named_with_the_layer_and_no_other(tmp_path: Path) -> None:
    """In float16 a white picture leaves its range in the second convolution; grey ones, in the same batch, do not."""

    def widen(network: torch.nn.Module) -> None:
        for parameter in network.blocks[0].parameters():  # type: ignore[index, union-attr]
            parameter.data.fill_(1.0)
        network.blocks[3].weight.data.fill_(400.0)  # type: ignore[index, union-attr]

    teacher = write_teacher(tmp_path / "teacher", change=widen)
    for index, name in enumerate("abcdef"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        grey = 255 if name == "e" else 100 + index
        Image.new("RGB", (16, 16), (grey, grey, grey)).save(tmp_path / "photos" / f"{name}.png")
    views = ("--data", f"folder:{tmp_path / 'photos'}", "--image_size", "16", "--shard_size", "4")
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *views)
    refused = command("extract", *flags, "--precision", "float16")
    refused.refuses("the teacher's logits of e holds NaN or infinity, first in blocks.3;")
    held = contents(tmp_path / "cache")
    assert any("/c/0/0/" in name for name in held)  # of a to d
    assert not any("v00-00001" in name or "/c/0/1/" in name for name in held)


def test_a_poisoned_weight_of_a_transformer_is_found_before_anything_is_calibrated(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(depth=3)
    checkpoint["model"]["blocks.1.mlp.fc1.weight"][5, 3] = float("nan")
    write_checkpoint(tmp_path / "poisoned.pt", checkpoint)
    flags = ("--teacher", "data2vec2", "--weights", tmp_path / "poisoned.pt", "--out", tmp_path / "cache")
    refused = command("extract", *flags, "--data", "digits", "--limit", "20", "--target", "layer_mean,cls")
    refused.refuses("layer_mean of digit-0000 holds NaN or infinity, first in network.blocks.1.mlp.fc1;")
    held = contents(tmp_path / "cache")
    assert not any("calibration" in name or "/c/0/" in name or "/commits/" in name for name in held)
