"""`--shards s3://...`: the same reader, the same checks and the same student as from a folder."""

import os
import subprocess
import sys
from pathlib import Path

import caches
import pytest
from caches import command, contents
from s3_server import Server
from test_bucket import put

from shards.mirror import LOCAL_CACHE
from shards.stores import open_store

STUDENT = ("--student", "convnet:width=4,depth=2", "--epochs", "2", "--batch_size", "8", "--devices", "cpu")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local cache, empty."""
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def url(pristine: Path, s3: Server, home: Path) -> str:
    command("shards", "push", pristine, s3.url).succeeds()
    s3.faults.requests.clear()
    s3.faults.bytes_out = 0
    return s3.url


def shard_files(home: Path) -> list[Path]:
    return sorted(path for path in home.rglob("*") if path.suffix == ".tar" or ("c" in path.parts and path.is_file()))


def shards_fetched(s3: Server) -> dict[str, int]:
    """Answers to GET for tars and shard objects, by path."""
    return {path: count for path, count in s3.faults.fetched.items() if path.endswith(".tar") or "/c/" in path}


def distill(shards: object, run: Path) -> bytes:
    command("distill", "--shards", str(shards), "--run_dir", run, *STUDENT).succeeds()
    return (run / "student.safetensors").read_bytes()


def test_a_student_is_the_same_from_a_bucket_and_from_a_folder(
    pristine: Path, url: str, s3: Server, home: Path, tmp_path: Path
) -> None:
    from_folder = distill(pristine, tmp_path / "runs/folder")
    s3.faults.queue += [("503", "GET", "v00-00001.tar"), ("wrong", "GET", "v01-00000.tar"), ("cut", "GET", "c/0/0")]
    assert distill(url, tmp_path / "runs/bucket") == from_folder
    assert s3.faults.queue == []
    fetched = shards_fetched(s3)
    assert len(fetched) == 12 and sum(fetched.values()) == 12 + 1  # each shard once, and once more for the wrong bytes
    s3.faults.fetched.clear()
    assert distill(url, tmp_path / "runs/again") == from_folder
    assert not shards_fetched(s3)
    # what the run's summary names is the mirror, which still knows where it comes from
    for path in shard_files(home):
        path.unlink()
    out = (
        command("evaluate", "--run", tmp_path / "runs/bucket", "--task", "fidelity", "--split", "train").succeeds().out
    )
    other = (
        command("evaluate", "--run", tmp_path / "runs/folder", "--task", "fidelity", "--split", "train").succeeds().out
    )
    assert [line for line in out.splitlines() if line.startswith("fidelity")] == [
        line for line in other.splitlines() if line.startswith("fidelity")
    ]


def test_a_damaged_local_file_is_fetched_again(
    pristine: Path, url: str, s3: Server, home: Path, tmp_path: Path
) -> None:
    first = distill(url, tmp_path / "runs/first")
    damaged = shard_files(home)
    assert len(damaged) >= 6
    for number, path in enumerate(damaged):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data[: len(data) // 2] if number % 2 else data)
    flags = ["--shards", url, "--run_dir", str(tmp_path / "runs/second"), *STUDENT]
    code = f"from distill.__main__ import main; main({flags!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=dict(os.environ))
    assert (tmp_path / "runs/second/student.safetensors").read_bytes() == first
    here = {path.relative_to(next(home.iterdir())).as_posix(): path.read_bytes() for path in damaged}
    assert all(data == contents(pristine)[name] for name, data in here.items())


def test_what_is_wrong_in_the_bucket_is_refused(url: str, s3: Server, home: Path, tmp_path: Path) -> None:
    store = open_store(url)
    tars = [name for name in store.sizes() if name.endswith(".tar")]
    flags = ("--run_dir", tmp_path / "run", *STUDENT)
    good = store.get(tars[0])
    put(store, tars[0], good[:-512])
    command("distill", "--shards", url, *flags).refuses(tars[0], "half uploaded")
    put(store, tars[0], good[:-1] + b"x")
    command("distill", "--shards", url, *flags).refuses(tars[0], "its SHA-256 is not the manifest's")
    store.remove(tars[0])
    command("distill", "--shards", url, *flags).refuses(tars[0], "missing")
    put(store, tars[0], good)
    command("distill", "--shards", url, *flags).succeeds()


def test_the_commands_that_look_after_a_cache(pristine: Path, url: str, home: Path, tmp_path: Path) -> None:
    assert command("shards", "list", url).succeeds().out == command("shards", "list", pristine).succeeds().out
    viewset, targetset = caches.viewset_of(pristine), caches.targetset_of(pristine)
    assert shard_files(home) == []  # documents alone
    for place in (viewset.name, f"{viewset.name}/targets/{targetset.name}"):
        assert "samples x views" in command("shards", "info", f"{url}/{place}").succeeds().out
    sheet, other = tmp_path / "sheet.png", tmp_path / "other.png"
    command("shards", "view", url, "--output", sheet, "--num", "6").succeeds()
    command("shards", "view", pristine, "--output", other, "--num", "6").succeeds()
    assert sheet.read_bytes() == other.read_bytes()
    command("shards", "remove", url, "--yes").refuses("only sets in a folder are removed")
    command("shards", "list", f"{url}/nowhere").refuses("holds no view set", "push CACHE")


def test_verify_reads_every_byte_there(pristine: Path, url: str, home: Path) -> None:
    store = open_store(url)
    out = command("shards", "verify", url).succeeds().out
    assert f"{len(store.sizes()) - 2} files of 2 sets" in out
    names = [name for name in store.sizes() if name.endswith(("v00-00000.tar", "v01-00001.tar", "c/1/2/0"))]
    for name, change in zip(names, (lambda data: b"x" + data[1:], lambda data: data[:-1]), strict=False):
        put(store, name, change(store.get(name)))
    store.remove(names[2])
    put(store, "stranger", b"")
    found = command("shards", "verify", url)
    assert found.status == 2 and "damaged: 4 found" in found.err
    for name in (*names, "stranger"):
        assert sum(name in line for line in found.err.splitlines()) == 1
