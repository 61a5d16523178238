"""More shards than a process may have files open: every command works on them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NUM_SHARDS, OPEN_FILES = 500, 256

COMMANDS = """
import os, resource, sys
from pathlib import Path

resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
os.fsync = lambda descriptor: None  # 6,600 of them take longer than all else
import caches

here = Path(sys.argv[1])
teacher = caches.write_teacher(here / "teacher")
cache, run = here / "cache", here / "run"
extract = ("extract", "--teacher", f"run:{{teacher}}", "--out", cache, "--devices", "cpu", "--data", "digits")
train = ("--student", "convnet:width=4,depth=1", "--batch_size", "{shards}", "--max_steps", "1", "--devices", "cpu")
commands = [
    (*extract, "--limit", "{shards}", "--shard_size", "1", "--image_size", "16"),
    (*extract, "--limit", "9", "--split", "validation"),
    ("distill", "--shards", cache, "--run_dir", run, *train),
    ("evaluate", "--run", run, "--task", "fidelity", "--split", "train", "--device", "cpu"),
    ("shards", "list", cache),
    ("shards", "info", cache),
    ("shards", "verify", cache),
    ("shards", "view", cache / "digits-train", "--output", here / "sheet.png", "--num", "500"),
    ("shards", "export", cache / "digits-train", "--output", here / "exported"),
    ("shards", "remove", cache / "digits-train", "--yes"),
]
for command in commands:
    words = [caches.viewset_of(cache) if word == cache / "digits-train" else word for word in command]
    done = caches.command(*words)
    assert done.status == 0, (words, done)
    print(words[0], words[1], done.out.splitlines()[-1])
"""


@pytest.mark.slow
def test_every_command_works_on_more_shards_than_open_files(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", "CUDA_VISIBLE_DEVICES": ""}
    script = COMMANDS.format(limit=OPEN_FILES, shards=NUM_SHARDS)
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"export shards export: done: {NUM_SHARDS:,} samples" in done.stdout
