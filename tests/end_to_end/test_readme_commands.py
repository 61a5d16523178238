"""The README's commands in their order, with a teacher and data that need no download in the place of its own."""

import re
from pathlib import Path

import caches
import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
SUBSTITUTES = {
    "resnet101 ": "run:teacher ",
    "--data imagenet --data_dir /data/imagenet": "--data digits --limit 60 --shard_size 32 --view size=16",
    "topk:16": "topk:5",
    "distill  --shards logits/": "distill --shards logits/ --max_steps 4 --batch_size 32 --run_dir runs/student",
    "runs/resnet50-from-resnet101-resnet50": "runs/student",
    "imagenet-train-...": "digits-train-*",
    "cache/": "logits/",
}


def commands() -> list[list[str]]:
    """Those that follow from a supervised teacher's logits, then those that look after a cache."""
    block = README.partition("or, from a supervised teacher's logits,")[2].partition("`--help` lists")[0]
    lines = re.findall(r"^    python -m (.*)", block, re.M)
    lines += re.findall(r"^    python -m (shards .*)", README, re.M)
    assert len(lines) >= 6
    return [_substituted(line.partition("#")[0]).split() for line in lines]


def _substituted(line: str) -> str:
    for theirs, ours in SUBSTITUTES.items():
        line = line.replace(theirs, ours)
    return line


def test_the_commands_follow_from_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    caches.write_teacher(tmp_path / "teacher", width=4)
    for name, *flags in commands():
        words = [str(next(Path().glob(flag))) if "*" in flag else flag for flag in flags]
        caches.command(name, *words).succeeds()
    assert (tmp_path / "sheet.png").exists() and (tmp_path / "runs/student/evaluation.json").exists()
