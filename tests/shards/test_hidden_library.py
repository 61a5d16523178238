"""A file of the user's that is called as a library is: one line that names it, before any of it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.command.clash import hidden_library

ROOT = Path(__file__).parents[2]
THEIRS = "raise SystemExit('the file beside the user ran')\n"


def extract(folder: Path, data: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "extract", "--teacher", "none", "--data", data, "--out", "cache", "--limit", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("datasets.py", "hf:.", marks=pytest.mark.slow),
        pytest.param("sklearn/__init__.py", "digits", marks=pytest.mark.slow),
        ("jsonargparse.py", "digits"),
    ],
)
def test_a_module_beside_the_user_is_named(name: str, data: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(THEIRS)
    done = extract(tmp_path, data)
    library = name.removesuffix(".py").removesuffix("/__init__")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"extract: {tmp_path / name} hides the library {library} (")
    assert done.stderr.endswith("): rename it, or work in another folder\n")


@pytest.mark.slow
def test_files_that_hide_nothing_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()  # a data folder is no module
    (tmp_path / "wandb.py").write_text(THEIRS)  # a library that this command does not import
    (tmp_path / "my_own.py").write_text(THEIRS)
    done = extract(tmp_path, "digits")
    assert done.returncode == 0, done.stderr
    assert hidden_library("datasets", tmp_path) is None
    assert hidden_library("my_own", tmp_path) is None
    assert hidden_library("wandb", tmp_path) is not None


def test_our_own_packages_hide_nothing() -> None:
    assert [hidden_library(name, ROOT) for name in ("shards", "extract", "distill", "evaluate")] == [None] * 4
