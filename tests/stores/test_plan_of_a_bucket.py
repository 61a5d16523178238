"""`extract --out s3://... --plan`: temporary objects probe the bucket; it and its mirror stay as they are."""

from pathlib import Path

import caches
import pytest
from s3_server import Server

from shards.bill.trial import TRIAL_PREFIX
from shards.mirror import LOCAL_CACHE
from shards.stores import open_store

PLAN = ("--plan", "seconds=0.5")


def in_bucket(s3: Server) -> dict[str, bytes]:
    store = open_store(s3.url)
    return {name: store.get(name) for name in store.sizes()}


@pytest.fixture
def flags(teacher: Path, s3: Server) -> tuple[str, ...]:
    return ("--out", s3.url, "--teacher", f"run:{teacher}", *caches.SMALL)


def test_a_bucket_without_a_cache_stays_empty(flags: tuple[str, ...], s3: Server, home: Path) -> None:
    out = caches.extract(*flags, *PLAN).out
    assert "40 views and 40 forwards to make" in out and "the bucket writes" in out and "\nsend " in out
    assert in_bucket(s3) == {} and s3.faults.requests["PUT"] >= 16 and not home.exists()
    assert [path.name for path in home.parent.iterdir()] == []


def test_a_folder_by_its_url_is_not_made(teacher: Path, home: Path, tmp_path: Path) -> None:
    out = f"file://{tmp_path}/disk/cache"
    assert "the bucket writes" in caches.extract("--out", out, "--teacher", f"run:{teacher}", *caches.SMALL, *PLAN).out
    assert list(tmp_path.iterdir()) == []
    caches.command("extract", "--out", out, "--teacher", "nonsense", *caches.SMALL).refuses("nonsense")
    assert not (tmp_path / "disk").exists()


@pytest.mark.slow
def test_a_cache_in_a_bucket_and_its_mirror_stay(
    flags: tuple[str, ...], s3: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches.extract(*flags)
    before, mirror = in_bucket(s3), caches.contents(home)
    out = caches.extract(*flags, "--codec", "float32", *PLAN).out
    assert "0 views and 40 forwards to make" in out and "\nfetch " in out
    assert in_bucket(s3) == before and caches.contents(home) == mirror
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "elsewhere"))  # another machine, without a mirror
    again = caches.extract(*flags, "--views", "2", *PLAN).out
    assert "40 views and 40 forwards to make" in again
    assert in_bucket(s3) == before and not (tmp_path / "elsewhere").exists()


def test_what_a_killed_plan_left_in_a_bucket_goes(flags: tuple[str, ...], s3: Server, home: Path) -> None:
    open_store(s3.url).put(f"{TRIAL_PREFIX}3", b"left", "")
    caches.extract(*flags)
    assert not [name for name in in_bucket(s3) if name.startswith(".")]


def test_a_bucket_that_takes_nothing(flags: tuple[str, ...], s3: Server, home: Path) -> None:
    s3.faults.always.append(("403", "PUT", TRIAL_PREFIX))
    caches.command("extract", *flags, *PLAN).refuses(s3.bucket, "refuses the credentials")
    assert in_bucket(s3) == {} and not home.exists()
    s3.faults.always.clear()
