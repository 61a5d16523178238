"""What the tests of evaluate start from: digits, small students trained on them, and runs as distill leaves them."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from extract.modalities.crop import render
from extract.modalities.image import IMAGENET_MEAN, IMAGENET_STD
from extract.networks import build_network, export_network
from extract.networks.data2vec2 import ImageOutputs
from extract.sources import open_source
from extract.teachers.data2vec2 import load_data2vec2

SIZE = 16
CLASSES = [str(digit) for digit in range(10)]


def digits(split: str) -> tuple[Tensor, Tensor]:
    """Normalised images (samples, 3, 16, 16) and labels of `split`, by PIL and numpy alone."""
    source = open_source("digits", split)
    samples = [source.read(index) for index in range(len(source.keys))]
    pixels = np.stack([render(sample.image, (0, 0, *sample.image.size), False, SIZE) for sample in samples])
    return torch.from_numpy((pixels / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2), torch.tensor(
        [sample.label for sample in samples]
    )


def write_student(
    folder: Path, width: int, epochs: int, num_classes: int = 10, names: list[str] | None = CLASSES
) -> None:
    """A convnet trained for `epochs` passes over digits, exported as `distill` does."""
    torch.manual_seed(width)
    network = build_network("convnet", num_classes, width=width, depth=2)
    images, labels = digits("train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(network(images[rows])["logits"], labels[rows] % num_classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    described = {"architecture": "convnet", "arguments": {"width": width, "depth": 2}, "num_classes": num_classes}
    preprocessing = {"image_size": SIZE, "mean": [0.5] * 3, "std": [0.25] * 3}
    export_network(folder, network, {**described, **preprocessing, "class_names": names})


def write_dense_student(folder: Path, checkpoint: Path, depth: int) -> None:
    """The first `depth` blocks of a data2vec 2.0 checkpoint, exported as `distill` does: features and no classes."""
    teacher = load_data2vec2(checkpoint)
    network = ImageOutputs(teacher.first_blocks(depth), teacher.settings.depth)
    arguments = {"settings": asdict(network.settings), "teacher_depth": teacher.settings.depth, "projectors": {}}
    described = {"architecture": "data2vec2", "arguments": arguments, "num_classes": None, "class_names": None}
    preprocessing = {"image_size": network.settings.input_size, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    export_network(folder, network, described | preprocessing)


@dataclass(frozen=True)
class Bench:
    """The folders a test starts from; `run()` gives a fresh run of the student."""

    teacher: Path
    student: Path
    cache: Path
    scratch: Path

    def run(self, name: str = "run", exported: Path | None = None) -> Path:
        run = self.scratch / "runs" / name
        shutil.copytree(exported or self.student, run)
        (run / "config.yaml").write_text("seed: 0\n")
        viewset = next(self.cache.glob("digits-train-*"))
        summary = {
            "recipe": "soft",
            "student": "convnet",
            "num_parameters": 1234,
            "seconds": 5.5,
            "steps": 22,
            "teacher_forwards": 300,
            "cache_bytes": 1_500_000,
            "best_val_loss": None,
            "best_step": 22,
            "viewset": viewset.name,
            "targetsets": [folder.name for folder in viewset.glob("targets/*")],
            "cache": str(self.cache),
            "git_revision": None,
        }
        (run / "summary.json").write_text(json.dumps(summary))
        return run
