"""The views study: fresh views continue the stored ones, and its figures are those of plain arithmetic."""

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import caches
import pytest
import torch

from benchmarks.fresh_views import FreshBatches, maker_of
from benchmarks.steps import open_cache
from benchmarks.views_study import KINDS, VIEWS, excess, main, rows_of, table
from distill.data import CacheData

SAMPLES, SIZE, STORED = 40, 16, 2
PASSES = 2
"""Of the tiny study: as many as the fewest views that are more than one."""


def passes(data: CacheData, count: int) -> list[list[torch.Tensor]]:
    """The pixels of each batch of the first passes."""
    batches = data.training_batches()
    return [[batch.fields["pixels"].clone() for batch in batches] for _ in range(count)]


@pytest.mark.parametrize("store", ["", ",store=source,source_size=16"])
def test_fresh_views_continue_the_stored_ones(store: str, tmp_path: Path) -> None:
    cache, teacher = tmp_path / "cache", caches.write_teacher(tmp_path / "teacher")
    view = ("--view", f"crop:scale=0.3-1,size={SIZE}{store}", "--views", str(STORED), "--shard_size", "16")
    digits = ("--data", "digits", "--limit", str(SAMPLES), "--out", cache)
    caches.extract("--teacher", f"run:{teacher}", *digits, *view).succeeds()
    _, data = open_cache(cache, recipe="logits", student="convnet", batch_size=8)
    stored = passes(data, STORED + 1)
    data.batches = partial(FreshBatches, views=maker_of(cache))
    fresh = passes(data, STORED + 1)
    for one, other in zip(stored[:STORED], fresh[:STORED], strict=True):
        assert all(map(torch.equal, one, other)) and len(one) == SAMPLES // 8
    again, new = torch.cat(stored[STORED]), torch.cat(fresh[STORED])
    assert again.shape == new.shape and not torch.equal(again, new)


def run_study(folder: Path, out: str) -> dict:
    sizes = ("--samples", 32, "--teacher_samples", 128, "--held_out", 48, "--batch_size", 16)
    lengths = ("--teacher_steps", 4, "--passes", PASSES, "--seeds", 1)
    main(
        [str(flag) for flag in ("--data", "digits", "--work", folder / "work", "--out", folder / out, *sizes, *lengths)]
    )
    study: dict = json.loads((folder / out / "views_study.json").read_text())
    return study


@pytest.mark.slow
def test_as_many_views_as_passes_teach_as_endless_ones_do(tmp_path: Path) -> None:
    """Both are the same views in the same order; the live teacher sees them in batches of another size."""
    study = run_study(tmp_path, "out")
    assert study["steps"] == PASSES * 32 // 16 and len(study["rows"]) == len(KINDS) * len(VIEWS)
    for kind in KINDS:
        by_views = {views: rows_of(study, "digits", kind.target, views)[0] for views in VIEWS}
        figures = {views: [row[name] for name in kind.metrics] for views, row in by_views.items()}
        assert all(figures[one] == figures[other] for one, other in pairwise((2, 4, 8, 16, 32)))
        assert figures[1] != figures[2] == pytest.approx(figures[None], rel=1e-3)
        assert excess(study, "digits", kind, 2) == [pytest.approx(0, abs=1e-3)]
    assert table(study).count("\n| digits") == len(KINDS) * len(VIEWS)
    assert (tmp_path / "out/views_study.svg").stat().st_size > 10_000
    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "work/digits").rglob("runs/*/*") if path.is_file()}
    assert run_study(tmp_path, "again") == study
    assert all(path.stat().st_mtime_ns == time for path, time in runs.items()), "nothing is trained twice"
