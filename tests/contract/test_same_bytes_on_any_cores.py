"""Promise 5 where it is hardest: a big network's sums, on one core and on several, in one process and in two."""

import os
import subprocess
import sys

import pytest
import torch
from caches import contents
from safetensors.torch import save_file

from extract.networks import build_network


@pytest.mark.slow
def test_a_resnet50_at_224_says_the_same_bits_on_any_number_of_cores(tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "resnet50.safetensors"
    save_file(build_network("resnet50", 1000).state_dict(), weights)
    flags = ["--teacher", "resnet50", "--weights", weights, "--data", "digits", "--limit", "16", "--codec", "float32"]
    line = [sys.executable, "-m", "extract", *map(str, flags), "--batch_size", "8", "--shard_size", "8", "--out"]
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core only")
    found = []
    for name, used, devices in (("one", 1, "cpu"), ("all", len(cores), "cpu"), ("two", len(cores), "2")):
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        environment["OMP_NUM_THREADS"] = str(used)
        pinned = ["taskset", "-c", ",".join(map(str, sorted(cores)[:used]))]
        command = [*pinned, *line, str(tmp_path / name), "--devices", devices]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        found.append(contents(tmp_path / name))
    assert found[0] == found[1] == found[2]
