"""Supervised: random samples of any labelled source, and a small network that learnt their labels: a study's teacher.

`distill --recipe supervised` trains it, so that `--teacher run:` gives its logits. A vision transformer in a folder as
the hub stores it is `--teacher timm:FOLDER`, which gives features a token too.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.study import command
from extract.modalities.image import IMAGENET_MEAN, IMAGENET_STD
from extract.sources import open_source
from shards.commit import write_atomically
from shards.draws import permutation
from shards.tar import pack

ARCHITECTURE = "test_vit"
"""timm's smallest network of tokens: 6 blocks of width 64, patches of 16 pixels, 0.4 M parameters."""


def write_samples(data: str, split: str, count: int, path: Path) -> None:
    """`path` is a tar of `count` random samples of a source, or of all, in random order: any first ones are random too.

    Labels are the source's; images are PNG files, which lose nothing.
    """
    source = open_source(data, split).only(frozenset({"image"}))
    chosen = permutation(len(source.keys), 0, 0)[:count].tolist()

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number, index in enumerate(chosen):
            sample, png = source.read(index), io.BytesIO()
            assert sample.image is not None
            sample.image.save(png, "PNG")
            yield f"{number:06d}", {"png": png.getvalue(), "cls": str(sample.label).encode()}

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pack(samples())[0])


def train_teacher(data: str, folder: Path, view: str, spec: str, max_steps: int, lr: float) -> Path:
    """The run of the network `spec` after `max_steps` steps on the labels of `data`, four views a sample."""
    views, run = folder / "views", folder / "run"
    command("extract", "--teacher", "none", "--data", data, "--out", views, "--view", view, "--views", 4)
    training = ("--max_steps", max_steps, "--batch_size", 64, "--lr", lr, "--run_dir", run)
    command("distill", "--shards", views, "--recipe", "supervised", "--student", spec, *training)
    return run


def as_dense(run: Path, folder: Path, size: int) -> str:
    """`--teacher` for what `run` trained as timm's ARCHITECTURE, with features a token; `folder` is as on the hub."""
    names = json.loads((run / "student.json").read_text())["class_names"]
    fed = {"input_size": [3, size, size], "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "classifier": "head"}
    described = {"architecture": ARCHITECTURE, "model_args": {"img_size": size}, "label_names": names}
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "model.safetensors", (run / "student.safetensors").read_bytes())
    write_atomically(folder / "config.json", json.dumps(described | {"pretrained_cfg": fed}).encode())
    return f"timm:{folder}"
