"""A cache with three target sets of one teacher, for the tests of `python -m shards`."""

from pathlib import Path

import caches
import pytest
from trained_runs import train


@pytest.fixture(scope="session")
def pristine_full(pristine: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pristine` (logits in float32) with the top 3 logits and the pooled features too; no test writes to it."""
    cache = caches.copied(pristine, tmp_path_factory.mktemp("full") / "cache")
    flags = ("--teacher", f"run:{teacher}", "--out", cache, *caches.SMALL, "--views", "2")
    caches.extract(*flags, "--target", "logits", "--codec", "topk:3")
    caches.extract(*flags, "--target", "pooled", "--codec", "float16")
    return cache


@pytest.fixture(scope="session")
def trained(pristine_full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one run over `pristine_full`; tests copy it."""
    return train(pristine_full, tmp_path_factory.mktemp("trained") / "runs" / "first").parent


@pytest.fixture
def full(pristine_full: Path, tmp_path: Path) -> Path:
    """A copy of `pristine_full` for one test."""
    return caches.copied(pristine_full, tmp_path / "cache")
