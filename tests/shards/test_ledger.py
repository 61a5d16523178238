"""The ledger: what runs saved against the teacher in the loop, and which target sets no run has read."""

import json
import os
import shutil
from pathlib import Path

import caches
import pytest
from trained_runs import BATCH_SIZE, STEPS, again, train

from shards.page.ledger import Ledger, ledger_of
from shards.page.sets import cards_of
from shards.page.trained import runs_in


@pytest.fixture(scope="module")
def trained(pristine_full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(pristine_full, tmp_path_factory.mktemp("ledger") / "runs" / "first").parent


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return caches.copied(trained, tmp_path / "runs")


def ledger(cache: Path, runs: Path, dollars: float = 0.75, rate: float | None = None) -> Ledger:
    from shards.cache import viewsets_at

    return ledger_of([cards_of(each) for each in viewsets_at((str(cache),))], runs_in(runs), dollars, rate)


def test_a_run_saved_a_forward_for_each_sample_of_each_step(full: Path, runs: Path) -> None:
    (entry,) = ledger(full, runs, dollars=2.0, rate=4.0).entries
    assert entry.saved == STEPS * BATCH_SIZE
    assert entry.hours == pytest.approx(entry.saved / 4 / 3600) and entry.dollars == pytest.approx(2 * entry.hours)


def test_the_times_of_commits_tell_how_long_a_forward_takes(full: Path, runs: Path) -> None:
    """Shards of 16 rows, 8 seconds apart but for one pause: half a second a forward."""
    floats = caches.targetset_of(full, "float32")
    for number, path in enumerate(sorted((floats / "commits").iterdir())):
        os.utime(path, (0, 8 * number + (7200 if number > 2 else 0)))
    (entry,) = ledger(full, runs).entries
    assert entry.hours == pytest.approx(0.5 * STEPS * BATCH_SIZE / 3600)
    for path in sorted((floats / "commits").iterdir())[3:]:
        path.unlink()  # too few to tell
    (entry,) = ledger(full, runs).entries
    assert entry.saved == STEPS * BATCH_SIZE and entry.hours is None and "--teacher_rate" in entry.unknown


def test_target_sets_that_no_run_has_read(full: Path, runs: Path) -> None:
    unread = {"topk3", "pooled"}
    told = ledger(full, runs)
    assert {card.name.split("-")[3 if "topk3" in card.name else 2] for card in told.unread} == unread
    sizes = [path.stat().st_size for name in ("topk", "pooled") for path in _files(caches.targetset_of(full, name))]
    assert sum(card.described.num_bytes for card in told.unread) <= sum(sizes)
    # what a run was measured on was read, too
    evaluated = again(runs / "first", "measured")
    weights = json.loads((evaluated / "student.json").read_text())["weights"]["sha256"]
    record = {"targetset": caches.targetset_of(full, "topk").name, "weights_sha256": weights}
    (evaluated / "evaluation.json").write_text(json.dumps({"fidelity": record}))
    assert [card.name for card in ledger(full, runs).unread] == [caches.targetset_of(full, "pooled").name]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_not_known_is_said(full: Path, runs: Path) -> None:
    (again(runs / "first", "half") / "summary.json").unlink()
    (again(runs / "first", "lost") / "run.json").write_text("{}")
    told = ledger(full, runs, rate=1.0)
    assert {entry.run.name: entry.unknown for entry in told.entries} == {
        "first": "",
        "half": "its steps: it has no summary.json",
        "lost": "what it read",
    }
    assert told.num_unknown == 1
    shutil.rmtree(caches.targetset_of(full, "float32"))
    (first, *_) = ledger(full, runs).entries
    assert first.saved is None and first.unknown == "1 target set it read, not whole in this cache"


def test_the_command_prints_it(full: Path, runs: Path) -> None:
    printed = caches.command("shards", "ledger", full, "--runs", runs, "--teacher_rate", "0.01").succeeds().out
    lines = printed.splitlines()
    assert lines[0].split()[:3] == ["run", "samples", "seen"]
    assert lines[1].split()[:5] == ["first", "96", "96", "2.67", "2.00"]
    pooled = caches.targetset_of(full, "pooled")
    assert f"no run has read {pooled.name}" in printed and f"python -m shards remove {pooled}" in printed
    assert "96 teacher forwards saved by 1 run, about 2.67 hours and $2.00" in lines[-1]
    caches.command("shards", "ledger", full).refuses("runs")
