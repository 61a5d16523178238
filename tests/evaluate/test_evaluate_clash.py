"""Hugging Face's `evaluate` in our place, in the three ways in which it can come there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import evaluate
import shards
from shards.command.clash import evaluate_clash

ROOT = Path(__file__).parents[2]
THEIRS = (
    '# Copyright 2020 The HuggingFace Evaluate Authors and the TensorFlow Datasets Authors.\n__version__ = "0.4.6"\n'
)
ASK = "from shards.command.clash import evaluate_clash; print(evaluate_clash())"


def python(*arguments: str, path: list[Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


def test_ours_is_ours() -> None:
    assert evaluate_clash() is None


def test_theirs_earlier_on_the_path_is_named(tmp_path: Path) -> None:
    theirs = tmp_path / "site" / "evaluate"
    theirs.mkdir(parents=True)
    (theirs / "__init__.py").write_text(THEIRS)
    (theirs / "config.py").write_text("")
    asked = python("-c", ASK, path=[tmp_path / "site", ROOT], cwd=tmp_path)
    assert f"Hugging Face's package of that name ({theirs / '__init__.py'})" in asked.stdout
    assert f"pip uninstall evaluate, or run python -m evaluate from {ROOT}" in asked.stdout
    assert asked.stdout.count("\n") == 1
    # what Python says by itself, for none of our code runs then; from our root ours is found first
    alone = python("-m", "evaluate", "--help", path=[tmp_path / "site", ROOT], cwd=tmp_path)
    assert alone.returncode == 1 and "No module named evaluate.__main__" in alone.stderr
    assert python("-m", "evaluate", "--help", path=[ROOT, tmp_path / "site"], cwd=tmp_path).returncode == 0


def test_both_installed_into_one_folder_say_so_themselves(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for package in (evaluate, shards):
        folder = Path(package.__file__).parent
        shutil.copytree(folder, site / folder.name, ignore=shutil.ignore_patterns("__pycache__", "*-*-*"))
    (site / "evaluate" / "__init__.py").write_text(THEIRS)
    (site / "evaluate" / "config.py").write_text("HF_EVALUATE_CACHE = None\n")
    for flags in (["--help"], ["--run", "x"]):
        done = python("-m", "evaluate", *flags, path=[site], cwd=tmp_path)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
        assert "pip uninstall evaluate, then install teacher-shards again" in done.stderr
    (site / "evaluate" / "__init__.py").unlink()  # as pip uninstall leaves it
    done = python("-S", "-m", "evaluate", "--help", path=[site], cwd=tmp_path)
    assert done.returncode == 2 and "install teacher-shards again" in done.stderr


def test_another_module_of_that_name_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "evaluate.py").write_text("raise SystemExit('not to be imported')\n")
    asked = python("-c", ASK, path=[ROOT], cwd=tmp_path)
    assert f"another package than teacher-shards's ({tmp_path / 'evaluate.py'})" in asked.stdout
