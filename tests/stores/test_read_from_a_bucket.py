"""`--shards s3://...`: the same reader, the same checks and the same student as from a folder."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import caches
import numpy as np
import pytest
from caches import command, contents
from PIL import Image
from s3_server import Server
from test_bucket import put
from test_row_cache_bounds import small_disk

from shards.bucket_rows import Bound, set_bound
from shards.mirror import LOCAL_CACHE, mirror_of
from shards.reader import TargetSet, ViewSet
from shards.remote import mirrored
from shards.stores import open_store

STUDENT = ("--student", "convnet:width=4,depth=2", "--epochs", "2", "--batch_size", "8", "--devices", "cpu")


def shard_files(home: Path) -> list[Path]:
    """Shards that were fetched whole."""
    files = (path for path in home.rglob("*") if path.is_file() and ".rows" not in path.parts)
    return sorted(path for path in files if path.suffix == ".tar" or "c" in path.parts)


def rows_on_disk(home: Path) -> int:
    """Bytes that rows take of the disk, in whole pages."""
    return sum(path.stat().st_blocks * 512 for path in (home / ".rows").rglob("*") if path.is_file())


def shards_fetched(s3: Server) -> dict[str, int]:
    """Answers to GET for tars and shard objects, by path."""
    return {path: count for path, count in s3.faults.fetched.items() if path.endswith(".tar") or "/c/" in path}


def distill(shards: object, run: Path, *flags: str) -> bytes:
    command("distill", "--shards", str(shards), "--run_dir", run, *STUDENT, *flags).succeeds()
    return (run / "student.safetensors").read_bytes()


@pytest.mark.slow
def test_a_student_is_the_same_from_a_bucket_and_from_a_folder(
    pristine: Path, url: str, s3: Server, home: Path, tmp_path: Path
) -> None:
    from_folder = distill(pristine, tmp_path / "runs/folder")
    s3.faults.queue += [("503", "GET", "v00-00001.tar"), ("wrong", "GET", "v01-00000.tar"), ("cut", "GET", "c/0/0")]
    s3.faults.queue += [("500", "GET", "c/1/1"), ("wrong", "GET", "c/0/1"), ("cut", "GET", "v00-00002.tar")]
    assert distill(url, tmp_path / "runs/bucket") == from_folder
    assert s3.faults.queue == []
    assert len(shards_fetched(s3)) == 12 and shard_files(home) == []  # by rows alone
    s3.faults.fetched.clear()
    assert distill(url, tmp_path / "runs/again") == from_folder
    assert not shards_fetched(s3)  # another process would find them there too
    for path in (home / ".rows").rglob("v00-00000.tar"):
        path.write_bytes(b"damage" * 1000)
    assert distill(url, tmp_path / "runs/damaged") == from_folder
    assert all(path.endswith("v00-00000.tar") for path in shards_fetched(s3))
    # what the run's summary names is the mirror, which still knows where it comes from
    shutil.rmtree(home / ".rows")
    set_bound(Bound())
    found = [
        command("evaluate", "--run", tmp_path / "runs" / name, "--task", "fidelity", "--split", "train").succeeds().out
        for name in ("bucket", "folder")
    ]
    bucket, folder = ([line for line in out.splitlines() if line.startswith("fidelity")] for out in found)
    assert bucket == folder and shard_files(home) == []


SIZE = 128
"""Noise of 128 x 128 is a PNG of about 49 kB, twelve pages."""
SOURCE_SIZE = 192
"""Of 192 x 192 a JPEG of about as much."""
PLAIN = (f"resize:size={SIZE},format=png",)
RENDERED = (f"crop:size=16,store=source,source_size={SOURCE_SIZE}", "--views", "4")


@pytest.mark.slow
@pytest.mark.parametrize("view", [PLAIN, RENDERED])
def test_with_half_of_the_data_held_an_epoch_downloads_half(
    view: tuple[str, ...], s3: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of views that are rendered each epoch reads another one, of the same images."""
    noise = np.random.default_rng(0).integers(0, 256, (40, SOURCE_SIZE, SOURCE_SIZE, 3), np.uint8)
    for number, pixels in enumerate(noise):
        path = tmp_path / f"photos/train/{number % 2}/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    flags = ("--view", *view, "--shard_size", "16", "--devices", "cpu")
    caches.extract("--teacher", "none", "--data", f"folder:{tmp_path}/photos", "--out", tmp_path / "cache", *flags)
    command("shards", "push", tmp_path / "cache", s3.url).succeeds()
    size = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.tar"))
    bound = (size + len(noise) * 2 * 4096) // 2
    train = ("--recipe", "supervised", "--student", "convnet:width=4,depth=2", "--batch_size", "4")
    train = (*train, "--devices", "cpu", "--read", f"check=always,local_cache={bound}")
    downloaded: list[int] = []
    for epochs in (1, 4):
        monkeypatch.setenv(LOCAL_CACHE, str(home / f"{epochs}"))
        s3.faults.bytes_out = 0
        flags = ("--shards", s3.url, "--run_dir", str(tmp_path / f"runs/{epochs}"), "--epochs", str(epochs))
        command("distill", *flags, *train).succeeds()
        downloaded.append(s3.faults.bytes_out)
        assert 0.9 * bound < rows_on_disk(home / f"{epochs}") <= bound
    assert 0.9 * size <= downloaded[0] and (downloaded[1] - downloaded[0]) / 3 <= 0.55 * size
    flags = ("--shards", str(tmp_path / "cache"), "--run_dir", str(tmp_path / "runs/folder"), "--epochs", "4")
    command("distill", *flags, *train).refuses("--read local_cache", "lies in a folder")
    command("distill", *flags, *train[:-2]).succeeds()
    weights = [(tmp_path / f"runs/{name}/student.safetensors").read_bytes() for name in ("4", "folder")]
    assert weights[0] == weights[1]


def test_bounds_that_do_not_do(url: str, home: Path, tmp_path: Path) -> None:
    flags = ("--shards", url, "--run_dir", tmp_path / "run", *STUDENT, "--read")
    command("distill", *flags, "local_cache=8kB").refuses(
        "--read local_cache: 8.0 kB hold no batch of", "give at least"
    )
    command("distill", *flags[:-1], "--local_cache", "8kB").refuses("--read local_cache: 8.0 kB hold no batch of")
    twice = ("check=once,local_cache=9kB", "--local_cache", "8kB")
    command("distill", *flags, *twice).refuses("--local_cache 8kB: --read local_cache=9kB says another")
    command("distill", *flags, "local_cache=lots").refuses("--read local_cache=lots: expected a size above 0")
    command("distill", *flags, "local_cache=9000TB").refuses("has room for", LOCAL_CACHE)


@pytest.mark.slow
def test_a_disk_that_fills_up_while_rows_arrive(pristine: Path, url: str, s3: Server, tmp_path: Path) -> None:
    """Another program takes the rest of it: the student is the same. Then nothing can be kept: a line says so."""
    weights = distill(pristine, tmp_path / "runs/folder")
    take, full = s3.faults.take, tmp_path / "home/of another"

    def first_fill(method: str, path: str) -> str | None:
        if path.endswith(".tar") and not full.exists():
            with contextlib.suppress(OSError), full.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        return take(method, path)

    with small_disk(tmp_path / "home", 4 << 20) as error, pytest.MonkeyPatch.context() as patch:
        distill(url, tmp_path / "runs/before")  # all documents and commit records are here
        set_bound(Bound())
        shutil.rmtree(tmp_path / "home/.rows")
        patch.setattr(s3.faults, "take", first_fill)
        flags = ("--shards", url, "--run_dir", tmp_path / "runs/bucket", *STUDENT)
        found = command("distill", *flags)
        assert found.succeeds().err.count(f"{error}: no more rows are kept") == 1
        assert (tmp_path / "runs/bucket/student.safetensors").read_bytes() == weights and full.stat().st_size > 0
        set_bound(Bound())
        run = ("--run", tmp_path / "runs/bucket", "--task", "fidelity", "--split", "train")
        evaluated = command("evaluate", *run)
        evaluated.refuses(f"{tmp_path}/home: half of what is free there is", "hold no batch of", LOCAL_CACHE)
        viewed = command("shards", "view", url, "--output", tmp_path / "sheet.png")
        viewed.refuses(f"{tmp_path}/home: {error}: what is read of buckets lies there", LOCAL_CACHE)
        assert "--read" not in evaluated.err + viewed.err


@pytest.mark.slow
def test_shards_without_checksums_are_fetched_whole(cache: Path, s3: Server, home: Path, tmp_path: Path) -> None:
    first = distill(cache, tmp_path / "runs/folder")
    viewset, targetset = caches.viewset_of(cache), caches.targetset_of(cache)
    for folder, manifest in ((viewset, "viewset.json"), (targetset, "targetset.json")):
        names = [path.relative_to(folder).as_posix() for path in sorted((folder / "commits").iterdir())]
        for name in names:
            caches.reseal(folder / name, lambda document: document.pop("checksums"))
        caches.reseal_records(folder, manifest, *names)
    command("shards", "push", cache, s3.url).succeeds()
    assert distill(s3.url, tmp_path / "runs/bucket") == first
    for number, path in enumerate(shard_files(home)):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data[: len(data) // 2] if number % 2 else data)
    flags = ["--shards", s3.url, "--run_dir", str(tmp_path / "runs/second"), *STUDENT]
    code = f"from distill.__main__ import main; main({flags!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=dict(os.environ))
    assert (tmp_path / "runs/second/student.safetensors").read_bytes() == first
    here = {"/".join(path.relative_to(home).parts[1:]): path.read_bytes() for path in shard_files(home)}
    assert len(here) == 12 and all(data == contents(cache)[name] for name, data in here.items())


def test_who_empties_the_local_cache_ends_no_reader(pristine: Path, url: str, home: Path) -> None:
    """All is fetched again: rows, and the documents that say how to check them."""
    kept = mirrored(url)
    views, targets = ViewSet(caches.viewset_of(kept)), TargetSet(caches.targetset_of(kept))
    held = ViewSet(caches.viewset_of(pristine)), TargetSet(caches.targetset_of(pristine))
    for view, samples in ((0, [1, 20, 39]), (1, [0, 18, 33]), (0, [2, 18, 39])):  # of all shards: nothing comes later
        assert np.array_equal(views.rows(view, samples)["pixels"], held[0].rows(view, samples)["pixels"])
        for name, expected in held[1].read(view, np.array(samples)).items():
            np.testing.assert_array_equal(targets.read(view, np.array(samples))[name], expected)
        shutil.rmtree(home)


@pytest.mark.slow
def test_what_is_wrong_in_the_bucket_is_refused(url: str, s3: Server, home: Path, tmp_path: Path) -> None:
    store = open_store(url)
    tars = [name for name in store.sizes() if name.endswith(".tar")]
    flags = ("--run_dir", tmp_path / "run", *STUDENT)
    good = store.get(tars[0])
    put(store, tars[0], good[: len(good) // 3])
    command("distill", "--shards", url, *flags).refuses(tars[0], "half uploaded")
    put(store, tars[0], good[1:] + b"x")
    command("distill", "--shards", url, *flags).refuses(tars[0], "fails its checksum after 3 fetches")
    store.remove(tars[0])
    command("distill", "--shards", url, *flags).refuses(tars[0], "missing")
    put(store, tars[0], good)
    command("distill", "--shards", url, *flags).succeeds()


def test_the_commands_that_look_after_a_cache(pristine: Path, url: str, home: Path, tmp_path: Path) -> None:
    assert command("shards", "list", url).succeeds().out == command("shards", "list", pristine).succeeds().out
    viewset, targetset = caches.viewset_of(pristine), caches.targetset_of(pristine)
    assert shard_files(home) == []  # documents alone
    for place in (viewset.name, f"{viewset.name}/targets/{targetset.name}"):
        said = command("shards", "info", f"{url}/{place}").succeeds().out
        assert "samples x views" in said and (url in said.splitlines()[-1]) and str(home) not in said.splitlines()[-1]
    sheet, other = tmp_path / "sheet.png", tmp_path / "other.png"
    command("shards", "view", url, "--output", sheet, "--num", "6").succeeds()
    command("shards", "view", pristine, "--output", other, "--num", "6").succeeds()
    assert sheet.read_bytes() == other.read_bytes()
    command("shards", "remove", url, "--yes").refuses("only sets in a folder are removed")
    kept = caches.viewset_of(mirror_of(url))
    command("shards", "remove", kept, "--yes").refuses(f"is what this machine keeps of {url}")
    assert kept.is_dir()
    (tmp_path / "runs").mkdir()
    said = command("shards", "ledger", url, "--runs", tmp_path / "runs").succeeds().out
    target = f"{kept.name}/targets/{caches.targetset_of(mirror_of(url)).name}"
    assert f"remove {url}/{target} with your store's own command" in said and "shards remove" not in said
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


def test_verify_tells_what_is_being_made_there_from_damage(pristine: Path, url: str, home: Path) -> None:
    """A target set without its manifest, and the shards of a growth; a shard that no plan has is foreign."""
    store, viewset = open_store(url), caches.viewset_of(pristine).name
    store.remove(f"{viewset}/targets/{caches.targetset_of(pristine).name}/targetset.json")
    put(store, f"{viewset}/views/v02-00000.tar", b"of a growth")
    found = command("shards", "verify", url)
    assert found.status == 2 and "half written (listed above); what has a manifest is whole" in found.err
    assert f"{viewset}: 1 file of a set, or of a growth" in found.err and "damaged" not in found.err
    put(store, f"{viewset}/views/v01-00009.tar", b"foreign")
    found = command("shards", "verify", url)
    assert found.status == 2 and "damaged: 1 found" in found.err and "v01-00009.tar: is in no manifest" in found.err
