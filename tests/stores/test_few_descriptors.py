"""A bucket of more shards than a process may have files open: every command works under `ulimit -n 256`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from s3_server import Server

SHARDS, DESCRIPTORS = 320, 256


@pytest.mark.slow
def test_every_command_reads_a_bucket_under_few_descriptors(s3: Server, home: Path, tmp_path: Path) -> None:
    run, sized = tmp_path / "run", ("--limit", str(2 * SHARDS), "--shard_size", "2", "--view", "size=16")
    student = ("--student", "convnet:width=4,depth=2", "--epochs", "1", "--batch_size", "64", "--devices", "cpu")
    _limited("extract", "--teacher", "none", "--data", "digits", "--out", s3.url, "--devices", "cpu", *sized)
    _limited("distill", "--shards", s3.url, "--run_dir", str(run), *student, "--recipe", "supervised")
    _limited("extract", "--teacher", f"run:{run}", "--out", s3.url, "--devices", "cpu")
    _limited("distill", "--shards", s3.url, "--run_dir", f"{run}-2", *student, "--recipe", "logits")
    _limited("evaluate", "--run", f"{run}-2", "--task", "accuracy,fidelity", "--split", "train")
    assert "shards verify: whole: " in _limited("shards", "verify", s3.url)
    assert _limited("shards", "list", s3.url).count("whole") == 2
    kept = [path for path in home.rglob("*") if "/views/v" in str(path) or "/values/c/" in str(path)]
    assert len({path.name for path in kept}) > DESCRIPTORS


def _limited(*words: str) -> str:
    command = f'ulimit -n {DESCRIPTORS}; exec "$@"'
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = ("bash", "-c", command, "bash", sys.executable, "-m", *words)
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout
