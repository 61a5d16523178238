"""The digits' path as a user types it, in fresh processes in an empty folder; and what each mistake is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import caches
import pytest

TINY = ["--student", "convnet:width=4,depth=2", "--batch_size", "16", "--epochs", "2"]


def typed(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` typed in `folder`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # in less than a minute there is nothing to say there
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_typed_beside_a_cache_called_shards(shards: Path, tmp_path: Path) -> None:
    caches.copied(shards, tmp_path / "shards")
    line = last_line(typed(tmp_path, "distill", "--shards", "shards/", "--targets", "one", *TINY))
    assert line.startswith("distill: done: 8 steps, ") and line.endswith(": runs/digits-convnet-width4,depth2")


@pytest.mark.slow
def test_from_digits_to_a_table_in_four_commands(tmp_path: Path) -> None:
    """--out shards/ and --shards shards/ beside no package: defaults do the rest."""
    caches.write_teacher(tmp_path / "teacher", width=4)
    extract = ["extract", "--teacher", "run:teacher", "--out", "shards/"]
    line = last_line(typed(tmp_path, *extract, "--data", "digits", "--limit", "64", "--views", "2"))
    assert "128 views made, 128 teacher forwards" in line and "samples/s" in line and "shards/digits-train-" in line
    line = last_line(typed(tmp_path, *extract, "--split", "validation", "--limit", "20"))
    assert "20 views made, 20 teacher forwards" in line

    line = last_line(typed(tmp_path, "distill", "--shards", "shards/", *TINY))
    assert "distill: done: 8 steps" in line and "0 teacher forwards" in line
    run = Path(line.rpartition(": ")[2])
    assert run == Path("runs/digits-convnet-width4,depth2")  # the cache picked the recipe, the two of them the name
    summary = json.loads((tmp_path / run / "summary.json").read_text())
    assert summary["recipe"] == "digits" and summary["cache"] == "shards"

    line = last_line(typed(tmp_path, "evaluate", "--run", run, "--task", "accuracy,fidelity"))
    assert "accuracy on" in line and "fidelity on" in line and str(run) in line


@pytest.mark.slow
def test_a_training_that_is_typed_again_says_that_it_is_finished(shards: Path, tmp_path: Path) -> None:
    command = ["distill", "--shards", shards, "--targets", "one", "--run_dir", tmp_path / "run", *TINY]
    assert "distill: done" in caches.command(*map(str, command)).succeeds().out
    again = caches.command(*map(str, command)).succeeds().out
    assert "finished before" in again and "give another --run_dir" in again


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--shards", "nowhere"], ["nowhere", "no such folder", "python -m extract"]),
        (["--shards", "SHARDS"], ["--targets", "run-one-logits", "run-two-logits", "name one"]),
        (["--shards", "SHARDS", "--targets", "three"], ["--targets three", "no target set fits", "run-one"]),
        (["--shards", "SHARDS", "--recipe", "digit"], ["unknown recipe 'digit'", "did you mean digits"]),
        (["--shards", "SHARDS", "--targets", "one", "--student", "resnet9"], ["unknown student", "resnet8"]),
        (["--shards", "SHARDS", "--targets", "one", "--student", "resnet8:depth=2"], ["resnet8", "depth", "width"]),
        (["--shards", "SHARDS", "--targets", "one", "--batch_size", "100"], ["--batch_size 100", "70"]),
        (["--shards", "SHARDS", "--targets", "one", "--accumulate", "5"], ["--batch_size 64", "5"]),
        (["--shards", "SHARDS", "--targets", "one", "--precision", "half"], ["--precision half", "bfloat16"]),
        (["--shards", "SHARDS", "--targets", "one", "--devices", "all"], ["--devices all", "auto"]),
        (["--shards", "SHARDS", "--targets", "one", "--objective", "kll"], ["kll", "did you mean kl"]),
        (["--shards", "SHARDS", "--targets", "one", "--objective", "kl:temp=2"], ["temp", "temperature"]),
        (["--shards", "SHARDS", "--targets", "one", "--student", "data2vec2"], ["--student data2vec2", "logits"]),
        (["--shards", "SHARDS", "--lr", "fast"], ["lr", "--help"]),
        (["--shards", "SHARDS", "--learning_rate", "1"], ["learning_rate", "--help"]),
        (["--shards", "SHARDS", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        ([], ["shards", "--help"]),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing_behind(
    flags: list[str], words: list[str], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    caches.command("distill", *[str(shards) if flag == "SHARDS" else flag for flag in flags]).refuses(*words)
    assert not list(tmp_path.iterdir())


def test_a_run_folder_that_cannot_be_written(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    flags = ["--shards", str(shards), "--targets", "one", "--run_dir", str(tmp_path / "file" / "run"), *TINY]
    caches.command("distill", *flags).refuses(str(tmp_path / "file"))


def test_damage_is_told_in_one_line_and_mending_it_lets_the_run_go_on(shards: Path, tmp_path: Path) -> None:
    cache = caches.copied(shards, tmp_path / "cache")
    path = next(caches.targetset_of(cache, "one").glob("values/c/1/1/*"))
    whole = path.read_bytes()
    flags = ["--shards", str(cache), "--targets", "one", "--run_dir", str(tmp_path / "run"), *TINY]
    path.write_bytes(whole[::-1])  # of the second view: it is met in the second epoch
    caches.command("distill", *flags).refuses(str(path), "crc32c")
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()
    path.write_bytes(whole)
    caches.command("distill", *flags).succeeds()
    caches.command("distill", *flags[:-6], *TINY, "--run_dir", str(tmp_path / "undamaged")).succeeds()
    ends = [(tmp_path / run / "student.safetensors").read_bytes() for run in ("run", "undamaged")]
    assert ends[0] == ends[1]
