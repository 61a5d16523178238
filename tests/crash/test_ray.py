"""A Ray cluster runs the shards, and loses a node in the middle: the bytes of a single process."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from caches import command, contents, extract, reseal, targetset_of
from s3_server import Server

from shards.errors import BadInput, UnknownName
from shards.mirror import LOCAL_CACHE
from shards.stores import open_store

FLAGS = ("--data", "digits", "--limit", "240", "--shard_size", "4", "--view", "size=16", "--views", "2")
FLAGS = (*FLAGS, "--devices", "cpu", "--codec", "int8", "--target", "pooled")
NUM_SHARDS = 2 * 60


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    found = command("extract", "--teacher", "none", "--data", "digits", "--out", tmp_path / "x", "--launch", "ray")
    found.refuses("--launch ray", "pip install 'teacher-shards[ray]'")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--launch", "ray", "--devices", "2"), "--devices 2: --launch ray starts the processes"),
        (("--launch", "ray:cpus=2"), "--launch ray: takes num_cpus, num_gpus, accelerator_type, found cpus=2"),
        (("--launch", "ray:num_cpus=two"), "num_cpus=two: expected a number"),
    ],
)
def test_what_ray_does_not_take(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install ray")
    command("extract", "--teacher", "none", "--data", "digits", "--out", tmp_path / "x", *flags).refuses(words)
    assert not (tmp_path / "x").exists()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs nothing; nodes are added to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the user's home
    pytest.importorskip("ray", reason="pip install ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    yield made
    made.shutdown()


def start(cluster: Any, teacher: Path, out: str, *flags: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "extract", "--teacher", f"run:{teacher}", *FLAGS, *flags]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "OMP_NUM_THREADS": "1"}
    words += ["--out", out, "--launch", "ray"]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: "subprocess.Popen[str]") -> str:
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return out


@pytest.mark.slow
def test_two_nodes_one_killed_in_the_middle(teacher: Path, tmp_path: Path, cluster: Any) -> None:
    cache = tmp_path / "shared"
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
    process = start(cluster, teacher, str(cache))
    while process.poll() is None and len(list(cache.glob("*/targets/*/commits/*.json"))) < NUM_SHARDS // 4:
        time.sleep(0.02)
    cluster.remove_node(nodes[0], allow_graceful=False)
    assert process.poll() is None and len(list(cache.glob("*/targets/*/commits/*.json"))) < NUM_SHARDS
    assert f"{2 * 240} teacher forwards" in end(process)
    extract("--teacher", f"run:{teacher}", *FLAGS, "--out", tmp_path / "alone")
    assert contents(cache) == contents(tmp_path / "alone")
    shutil.rmtree(next(cache.glob("*/targets")))
    assert "0 views made" in end(start(cluster, teacher, str(cache)))
    assert contents(cache) == contents(tmp_path / "alone")
    manifest = targetset_of(cache) / "targetset.json"
    reseal(manifest, lambda document: document.update(devices=["NVIDIA H100"]))
    note = f"note: {manifest.parent.name}: NVIDIA H100 computed the rows that are there, and this machine has CPU"
    assert end(start(cluster, teacher, str(cache), "--views", "3")).count(note) == 1
    manifest.unlink()
    first, *others = sorted(targetset_of(cache).glob("commits/*.json"))
    for path in others:
        path.unlink()
    reseal(first, lambda document: document.update(device="NVIDIA H100"))
    refused = start(cluster, teacher, str(cache))
    errors = refused.communicate(timeout=600)[1].strip().splitlines()
    assert refused.returncode == 2 and "is being made on NVIDIA H100, and this machine has CPU" in errors[-1]


@pytest.mark.slow
def test_nodes_fill_a_bucket_in_a_codec_that_has_to_learn(
    teacher: Path, tmp_path: Path, s3: Server, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node and the command have a local cache of their own; the first task's statistics reach the others."""
    for node in ("one", "two"):
        monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / node))
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "command"))
    flags = ("--limit", "24", "--views", "1")
    assert "24 teacher forwards" in end(start(cluster, teacher, s3.url, *flags))
    extract("--teacher", f"run:{teacher}", *FLAGS, *flags, "--out", tmp_path / "alone")
    store = open_store(s3.url)
    assert {name: store.get(name) for name in store.sizes()} == contents(tmp_path / "alone")
    assert {each.name for each in tmp_path.iterdir()} & {"one", "two"}


@pytest.mark.slow
def test_what_ends_a_task_ends_the_command_in_the_same_words(cluster: Any) -> None:
    import ray

    from extract.launch.ray import _result

    def fails(error: Exception | None) -> None:
        if error is None:
            os._exit(1)  # as a process that gets no more memory
        raise error

    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        task = ray.remote(num_cpus=1, max_retries=0)(fails)
        for error, kind, words in (
            (BadInput("--data: mend it"), BadInput, "^--data: mend it$"),
            (UnknownName("teacher", "resnet51", ["resnet50"]), BadInput, "unknown teacher 'resnet51': did you mean"),
            (
                OSError(errno.ENOSPC, "No space left on device", "/a/file"),
                OSError,
                "No space left on device: '/a/file'",
            ),
            (None, BadInput, r"a shard's process ended 21 times \(WorkerCrashedError\); .*--launch ray:num_cpus=4"),
            (ValueError("a fault of ours"), ray.exceptions.RayTaskError, "a fault of ours"),
        ):
            with pytest.raises(kind, match=words):
                _result(task.remote(error))
    finally:
        ray.shutdown()
