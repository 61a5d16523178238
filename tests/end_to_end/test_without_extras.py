"""`pip install teacher-shards`, without any extra: the main job works, and what needs an extra says which."""

import subprocess
import sys
from pathlib import Path

import pytest

OPTIONAL = ("cv2", "faiss", "ray", "tensorboard", "trackio", "efficientnet_lite_pytorch", "mfusepy")
"""What the extras install, but for threadpoolctl, which scikit-learn has too."""
# torchmetrics asks pip for matplotlib, and imports it where it is installed
FOR_DEVELOPERS = ("pytest", "hypothesis", "beartype", "moto", "boto3", "flask", "playwright")
HIDDEN = """
import runpy, sys
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = staticmethod(
    lambda name, *rest: None if name.partition(".")[0] in {hidden!r} else found(name, *rest)
)
for arguments in {commands!r}:
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code:
            raise
"""
"""Runs commands one after the other in one process, in which the optional packages are not installed."""


def run(folder: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    program = HIDDEN.format(hidden={*OPTIONAL, *FOR_DEVELOPERS}, commands=[command.split() for command in commands])
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_the_main_job(teacher: Path, tmp_path: Path) -> None:
    view = "--data digits --out cache --view size=8 --limit 40"
    done = run(
        tmp_path,
        f"extract --teacher run:{teacher} {view} --codec int8",
        "distill --shards cache --run_dir run --max_steps 2 --batch_size 8",
        "evaluate --run run --task fidelity --split train",
        "shards verify cache",
        "shards page cache --runs . --output page.html",
        "shards export cache --output features.parquet",
    )
    assert done.returncode == 0, done.stderr
    assert "whole" in done.stdout and (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("extract --teacher efficientnet_lite0 --out new --data digits", "efficientnet"),
        ("extract --teacher run:{teacher} --out new --data digits --codec pq:2 --view size=8 --limit 300", "pq"),
        ("extract --teacher run:{teacher} --out new --data digits --view size=8 --launch ray", "ray"),
        (
            "extract --teacher none --out new --data digits --views 2 "
            "--view crop:size=8,store=source,source_size=16,interpolation=linear_exact",
            "opencv",
        ),
        ("distill --shards {cache} --logger tensorboard", "tensorboard"),
        ("distill --shards {cache} --logger trackio", "trackio"),
    ],
)
def test_what_needs_an_extra_names_it(teacher: Path, cache: Path, tmp_path: Path, command: str, extra: str) -> None:
    done = run(tmp_path, command.format(teacher=teacher, cache=cache))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and f"pip install 'teacher-shards[{extra}]'" in done.stderr
    assert not (tmp_path / "new").exists()
