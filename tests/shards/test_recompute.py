"""`python -m shards verify --recompute`: the live teacher against what is stored, and every way they can part."""

from pathlib import Path

import caches
import numpy as np
import pytest
from test_verify import reseal_shard

from extract.recompute import recompute
from shards.decode import spread
from shards.mirror import LOCAL_CACHE
from shards.reader import TargetSet
from shards.zarrs import pack


def verify(*flags: str | Path) -> caches.Outcome:
    return caches.command("shards", "verify", *flags)


def test_the_live_teacher_says_what_is_stored(pristine_full: Path) -> None:
    found = verify(pristine_full, "--recompute", "20").succeeds()
    assert found.out.count("20 views recomputed") == 3
    assert "agreement of the first class 1.0" in found.out
    viewset = caches.viewset_of(pristine_full)
    for name, difference in (("float32", 1e-5), ("topk", 1e-3), ("pooled", 1e-2)):
        result = recompute(viewset, caches.targetset_of(pristine_full, name), 1000, None, None)
        assert result.num_samples == 2 * caches.NUM_SAMPLES and result.wrong == []
        assert result.measures["least cosine"] > 0.9999
        assert result.measures["largest difference"] < difference


def test_rows_that_another_sample_should_have_are_found(cache: Path) -> None:
    """Rows in the wrong order under valid checksums: no hash tells, the teacher does."""
    targetset = caches.targetset_of(cache)
    held = TargetSet(targetset)
    rows = held.read(0, np.arange(16, 32))["values"]
    noise = np.random.default_rng(0).normal(size=rows.shape).astype(np.float32)
    (targetset / "values/c/0/1/0").write_bytes(pack(held.arrays["values"], noise))
    reseal_shard(targetset, "targetset.json", "values/c/0/1/0")
    verify(cache).succeeds()
    found = verify(cache, "--recompute", str(2 * caches.NUM_SAMPLES))
    assert found.status == 2
    assert "view 0 of digit-0020: cosine" in found.err and "digit-0000" not in found.err
    assert "not what the teacher says" in found.err.splitlines()[-1]


def test_a_teacher_that_moved_is_named_by_flag(
    cache: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, which has no note of where it was."""
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "another"))
    targetset = caches.targetset_of(cache)
    path = targetset / "extract.yaml"
    path.write_text(path.read_text().replace(str(teacher), "/gone/teacher"))
    caches.reseal_records(targetset, "targetset.json", "extract.yaml")
    verify(cache, "--recompute", "4").refuses("/gone/teacher", "--teacher")
    moved = caches.copied(teacher, tmp_path / "moved")
    assert "4 views" in verify(cache, "--recompute", "4", "--teacher", f"run:{moved}").succeeds().out
    other = caches.write_teacher(tmp_path / "other", seed=5)
    refused = verify(cache, "--recompute", "4", "--teacher", f"run:{other}")
    refused.refuses("is not the teacher of", "teacher.weights_sha256", "the cache has")
    wider = caches.write_teacher(tmp_path / "wider", width=6)
    verify(cache, "--recompute", "4", "--teacher", f"run:{wider}").refuses("teacher.weights_sha256")


def test_nothing_to_recompute(cache: Path) -> None:
    caches.command("shards", "remove", caches.targetset_of(cache), "--yes").succeeds()
    verify(cache, "--recompute", "4").refuses("holds no target set")


@pytest.mark.parametrize(("total", "num"), [(80, 7), (80, 80), (3, 9), (100_000, 2)])
def test_the_samples_are_spread_evenly(total: int, num: int) -> None:
    chosen = spread(total, num)
    assert len(chosen) == min(total, num) and chosen[0] >= 0 and chosen[-1] < total
    if len(chosen) > 1:
        steps = np.diff(chosen)
        assert steps.min() >= 1 and steps.max() - steps.min() <= 1
