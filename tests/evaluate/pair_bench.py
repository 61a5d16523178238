"""What the tests of runs of images and texts start from, made once by the real commands."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import command, extract, write_teacher
from torch import Tensor, nn

from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from extract.modalities.image import ImageInput
from extract.modalities.pair import PairInput
from extract.modalities.text import TextInput
from extract.networks.pair import PairNetwork
from extract.teachers import load_teacher
from tests.pairs import COLOURS, SHAPES, SIDE, write_pairs
from tests.texts import WORDS, write_encoder

CPU = ("--device", "cpu", "--num_workers", "2")
NUM = 24


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, a cache of both splits with rows of two teachers, a student of pairs, and heads on the two towers."""
    root = tmp_path_factory.mktemp("pairs")
    write_pairs(root / "data", NUM)
    words = [*WORDS, *COLOURS, *SHAPES, "number", *"0123456789", *(f"##{digit}" for digit in range(10))]
    write_encoder(root / "bert", words=list(dict.fromkeys(words)))
    write_teacher(root / "teacher")
    flags = ("--data", f"wds:{root}/data:captions=caption", "--out", root / "cache", "--devices", "cpu")
    for split in ("train", "validation"):
        extract("--teacher", f"run:{root / 'teacher'}", "--target", "logits,pooled", *flags, "--split", split,
                "--view", f"pair:captions=3,size={SIDE},format=png")  # fmt: skip
        extract("--teacher", f"hf:{root / 'bert'}", "--target", "pooled", *flags, "--split", split)
    student = f"pair:convnet:width=4,depth=2+encoder:depth=1,width=16,tokenizer={root / 'bert'}+block:width=16"
    learn = ("--shards", root / "cache", "--devices", "cpu", "--batch_size", "12", "--precision", "float32")
    pair = ("--recipe", "transformer-shre", "--targets", "logits", "--student", student, "--init", "random")
    command("distill", *learn, *pair, "--max_steps", "4", "--run_dir", root / "runs/pair").succeeds()
    rows = (
        "--recipe",
        "align",
        "--targets",
        "bert-pooled,teacher-pooled",
        "--student",
        "align:width=32",
        "--lr",
        "0.003",
    )
    command("distill", *learn, *rows, "--max_steps", "150", "--run_dir", root / "runs/align").succeeds()
    return root


@pytest.fixture
def run(pairs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pairs / "runs/pair", tmp_path / "pair"))


def measured(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_bytes())


class Looked(nn.Module):
    """An encoder that knows its inputs: one row of a table each."""

    def __init__(self, table: Tensor, number: Any) -> None:
        super().__init__()
        self.table, self.number = table, number

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {"pooled": self.table[self.number(*inputs)]}


def oracle(pairs: Path, folder: Path, table: Tensor, of_texts: Tensor, **flags: Any) -> Evaluation:
    """A student that tells a colour by the first pixel, and its word as a caption's first; a table has a row each."""
    teacher = load_teacher(f"hf:{pairs / 'bert'}", None, None)
    tokenizer = teacher.inputs.tokenizer  # type: ignore[attr-defined]
    first = torch.tensor([int(tokenizer.ids([colour])[0][0]) for colour in COLOURS])
    colours = torch.tensor(list(COLOURS.values())) / 255
    encoders = {
        "image": Looked(table, lambda images: torch.cdist(images[:, :, 0, 0], colours).argmin(1)),
        "text": Looked(of_texts, lambda ids, mask: (ids[:, 1, None] == first).int().argmax(1)),
    }
    torch.manual_seed(0)
    width = table.shape[1]
    shared = {"kind": "mlp", "width": width, "hidden": 4 * width, "heads": 1}
    network = PairNetwork(encoders, {"image": width, "text": width}, shared, {}).eval()
    inputs = PairInput(ImageInput(SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), TextInput.of(16, tokenizer))
    student = TrainedStudent(network, inputs, None, None, torch.device("cpu"), torch.float32)
    return Evaluation(EvaluateConfig(device="cpu,threads=2", batch_size=3, **flags), folder, student, "ab" * 32, folder)
