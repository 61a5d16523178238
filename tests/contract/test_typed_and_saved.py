"""What is typed goes before what a --config says, also where a hidden flag and an option of another say the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config import ALIASES as OF_DISTILL
from distill.config import HIDDEN as HIDDEN_BY_DISTILL
from distill.config import DistillConfig, unfolded
from evaluate.config import ALIASES as OF_EVALUATE
from evaluate.config import EvaluateConfig
from extract.config import ALIASES as OF_EXTRACT
from extract.config import HIDDEN as HIDDEN_BY_EXTRACT
from extract.config import ExtractConfig
from extract.several import each_teacher
from shards.command.arguments import parse
from shards.errors import BadInput


def given(kind: str, folder: Path, saved: dict[str, Any], typed: list[str]) -> Any:
    """The flags of a command whose --config has `saved`, which stands behind those that are typed and before."""
    (folder / "saved.yaml").write_text(yaml.safe_dump(saved))
    config = ["--config", str(folder / "saved.yaml")]
    made = [_parsed(kind, words) for words in ([*config, *typed], [*typed, *config])]
    assert made[0] == made[1]
    return made[0]


def _parsed(kind: str, words: list[str]) -> Any:
    if kind == "distill":
        needed = ["--shards", "x"]
        return unfolded(parse(DistillConfig, kind, [*needed, *words], "", aliases=OF_DISTILL, hidden=HIDDEN_BY_DISTILL))
    if kind == "extract":
        needed = ["--teacher", "t", "--out", "x"]
        config = parse(ExtractConfig, kind, [*needed, *words], "", aliases=OF_EXTRACT, hidden=HIDDEN_BY_EXTRACT)
        return each_teacher(config)[0]
    return parse(EvaluateConfig, kind, ["--run", "x", *words], "", aliases=OF_EVALUATE)


@pytest.mark.parametrize(
    ("kind", "saved", "typed", "meant"),
    [
        ("distill", {"epochs": 5}, "--epochs 3", {"epochs": 3}),
        ("distill", {"accumulate": 4}, "--accumulate 2", {"accumulate": 2}),
        ("distill", {"label_weight": 0.1}, "--objective label_weight=0.2", {"label_weight": 0.2, "objective": None}),
        (
            "distill",
            {"label_weight": 0.1},
            "--objective mse:label_weight=0.2",
            {"label_weight": 0.2, "objective": "mse"},
        ),
        ("distill", {"label_weight": 0.1}, "--objective mse", {"label_weight": 0.1, "objective": "mse"}),
        (
            "distill",
            {"objective": "kl:label_weight=0.1,temperature=2"},
            "--label_weight 0.2",
            {"label_weight": 0.2, "objective": "kl:temperature=2"},
        ),
        ("distill", {"objective": "label_weight=0.1"}, "--label_weight 0.2", {"label_weight": 0.2, "objective": None}),
        ("distill", {"logger": "csv,wandb"}, "--wandb false", {"logger": "csv"}),
        ("distill", {"wandb": True}, "--logger tensorboard", {"logger": "tensorboard"}),
        ("extract", {"weights_key": "a"}, "--weights F:key=b", {"weights": "F", "weights_key": "b"}),
        ("extract", {"weights": "F", "weights_key": "a"}, "--weights G", {"weights": "G", "weights_key": "a"}),
        ("extract", {"weights": "F:key=a"}, "--weights_key b", {"weights": "F", "weights_key": "b"}),
        ("extract", {"weights_key": "a"}, "--weights :key=b", {"weights": None, "weights_key": "b"}),
        ("extract", {"dry_run": True}, "--launch slurm:tasks=2,dry_run=false", {"dry_run": False}),
        ("extract", {"launch": "slurm:dry_run=true,tasks=2"}, "--dry_run false", {"launch": "slurm:tasks=2"}),
        ("extract", {"launch": "slurm:tasks=2,dry_run=true"}, "--dry_run false", {"launch": "slurm:tasks=2"}),
        ("distill", {"plan": "dollars_per_hour=1"}, "--plan dollars_per_hour=2", {"plan": "dollars_per_hour=2"}),
        ("extract", {"image_size": 32}, "--view crop:size=16", {"view": "crop:size=16"}),
        ("evaluate", {"num_workers": 8}, "--device cpu,threads=2", {"device": "cpu,threads=2"}),
        ("evaluate", {"device": "cpu,threads=8"}, "--num_workers 2", {"device": "cpu,threads=2"}),
    ],
)
def test_what_is_typed_goes_before_what_is_saved(
    kind: str, saved: dict[str, Any], typed: str, meant: dict[str, Any], tmp_path: Path
) -> None:
    config = given(kind, tmp_path, saved, typed.split())
    assert {name: getattr(config, name) for name in meant} == meant


@pytest.mark.parametrize(
    ("kind", "typed", "message"),
    [
        (
            "distill",
            "--objective label_weight=0.1 --label_weight 0.2",
            "--label_weight 0.2: --objective .* says another",
        ),
        ("extract", "--weights F:key=a --weights_key b", "--weights_key b: --weights F:key=a says another"),
    ],
)
def test_what_is_typed_twice_and_otherwise_is_refused(kind: str, typed: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _parsed(kind, typed.split())


def test_a_saved_file_that_says_two_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="given twice"):
        given("distill", tmp_path, {"objective": "kl:label_weight=0.1", "label_weight": 0.2}, [])
    with pytest.raises(BadInput, match="another key, b, is given too"):
        given("extract", tmp_path, {"weights": "F:key=a", "weights_key": "b"}, [])


@pytest.mark.parametrize("hidden", [HIDDEN_BY_DISTILL, HIDDEN_BY_EXTRACT])
def test_no_message_names_a_hidden_flag(hidden: dict[str, Any]) -> None:
    """Where one was typed the range of its value is said of what was typed; no other text of the project names it."""
    packages = [Path(__file__).parents[2] / name for name in ("shards", "extract", "distill", "evaluate")]
    texts = {path: path.read_text() for package in packages for path in package.rglob("*.py")}
    texts |= {
        path: path.read_text() for path in [packages[0].parent / "README.md", *packages[0].parent.glob("docs/*.md")]
    }
    for name in hidden:
        found = [str(path) for path, text in texts.items() if f"--{name}" in text]
        assert all(path.endswith(("config.py", "slurm.py", "several.py")) for path in found), (name, found)
