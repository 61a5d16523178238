"""The ledger: what runs saved against the teacher in the loop, and what may be deleted."""

import json
import os
import shlex
import shutil
from pathlib import Path

import caches
import pytest
from trained_runs import BATCH_SIZE, STEPS, again, train

from shards.command.progress import human_bytes
from shards.documents import read_targetset_manifest
from shards.identity import identity_hash
from shards.page.ledger import Ledger, ledger_of
from shards.page.sets import cards_of
from shards.page.trained import runs_in
from shards.runs import find_runs


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
    assert {name.split("-")[3 if "topk3" in name else 2] for name in unread_sets(told)} == unread
    sizes = [path.stat().st_size for name in ("topk", "pooled") for path in _files(caches.targetset_of(full, name))]
    assert sum(thing.num_bytes for thing in told.removable if thing.kind == "target set") <= sum(sizes)
    # what a run was measured on was read, too
    evaluated = again(runs / "first", "measured")
    weights = json.loads((evaluated / "student.json").read_text())["weights"]["sha256"]
    record = {"targetset": caches.targetset_of(full, "topk").name, "weights_sha256": weights}
    (evaluated / "evaluation.json").write_text(json.dumps({"fidelity": record}))
    assert unread_sets(ledger(full, runs)) == [caches.targetset_of(full, "pooled").name]


def test_view_sets_that_no_target_set_and_no_run_needs(full: Path, runs: Path) -> None:
    """A view set goes with its target sets or not at all: one that is damaged may be worth something."""
    caches.extract("--teacher", "none", "--out", full, "--split", "validation", "--limit", "8", "--devices", "cpu")
    bare, taught = caches.viewset_of(full, "validation"), caches.viewset_of(full)
    assert notes_of_view_sets(full, runs) == {bare.name: ", which has no target set"}
    weights = json.loads((runs / "first/student.json").read_text())["weights"]["sha256"]
    for field in ("data", "train_data"):  # what a task measures on, and what it learns from
        record = {"knn": {field: bare.name, "weights_sha256": weights}}
        (runs / "first/evaluation.json").write_text(json.dumps(record))
        assert notes_of_view_sets(full, runs) == {} and not ledger(full, runs).are_unsure
    (runs / "first/evaluation.json").write_text("{")
    assert notes_of_view_sets(full, runs) == {bare.name: ", which has no target set"} and ledger(full, runs).are_unsure
    shutil.rmtree(runs / "first")
    noted = {bare.name: ", which has no target set", taught.name: ", with its target sets"}
    assert notes_of_view_sets(full, runs) == noted
    (caches.targetset_of(full, "pooled") / "targetset.json").write_text("{")
    assert notes_of_view_sets(full, runs) == {bare.name: ", which has no target set"}
    assert notes_of_view_sets(caches.targetset_of(full, "topk"), runs) == {}  # of one that is named nobody knows others


def notes_of_view_sets(cache: Path, runs: Path) -> dict[str, str]:
    return {thing.name: thing.note for thing in ledger(cache, runs).removable if thing.kind == "view set"}


def test_a_finished_run_needs_no_checkpoint(full: Path, runs: Path) -> None:
    again(runs / "first", "a b")
    (again(runs / "first", "half") / "summary.json").unlink()
    (again(runs / "first", "spoilt") / "summary.json").write_text("{")
    checkpoints = {name: runs / name / "checkpoints/last.ckpt" for name in ("first", "a b")}
    told = [thing for thing in ledger(full, runs).removable if thing.kind == "checkpoint"]
    assert {thing.removal: thing.num_bytes for thing in told} == {
        f"rm {shlex.quote(str(path))}": path.stat().st_size for path in checkpoints.values()
    }
    size = human_bytes(checkpoints["first"].stat().st_size)
    printed = caches.command("evaluate", "--runs", runs, "--ledger", "--shards", full).succeeds().out
    assert f"a finished run keeps first/checkpoints/last.ckpt, {size}: rm {checkpoints['first']}" in printed
    assert "2 target sets, 2 checkpoints may be deleted, which frees" in printed
    checkpoints["first"].unlink()
    assert train(full, runs / "first") == runs / "first"  # which was finished, and still is
    assert not checkpoints["first"].exists() and "first/" not in str(ledger(full, runs).removable)


def unread_sets(told: Ledger) -> list[str]:
    return [thing.name for thing in told.removable if thing.kind == "target set"]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_not_known_is_said(full: Path, runs: Path) -> None:
    (again(runs / "first", "half") / "summary.json").unlink()
    (again(runs / "first", "lost") / "run.json").write_text("{}")
    told = ledger(full, runs, rate=1.0)
    unknown = {entry.run.name: entry.unknown for entry in told.entries}
    assert unknown.pop("lost").startswith(f"damaged: {runs}/lost/run.json: recipe")
    assert unknown == {"first": "", "half": "its steps: it has no summary.json"}
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


def test_evaluate_prints_the_same_of_the_caches_that_runs_read(full: Path, runs: Path) -> None:
    """The run read `pristine_full`; a summary that names another cache brings that one in."""
    printed = caches.command("evaluate", "--runs", runs, "--ledger", "--shards", full).succeeds().out
    assert printed == caches.command("shards", "ledger", full, "--runs", runs).succeeds().out
    summary = json.loads((runs / "first/summary.json").read_text())
    by_itself = caches.command("evaluate", "--runs", runs, "--ledger").succeeds().out
    assert by_itself == caches.command("shards", "ledger", summary["cache"], "--runs", runs).succeeds().out
    again(runs / "first", "second", lambda summary: summary.update(cache=[str(full), "/nowhere"]))
    both = caches.command("evaluate", "--runs", runs, "--ledger").succeeds().out
    unread = [line for line in both.splitlines() if line.startswith("no run has read")]
    assert {str(Path(line.split()[-1]).parents[2]) for line in unread} == {str(full), summary["cache"]}
    for run in ("first", "second"):
        (runs / run / "summary.json").write_text("{}")
    caches.command("evaluate", "--runs", runs, "--ledger").refuses("--ledger", "give --shards CACHE")
    caches.command("evaluate", "--run", runs / "first", "--ledger").refuses("--ledger", "--runs DIR")


def test_damaged_runs_and_half_written_sets_are_told(full: Path, runs: Path) -> None:
    """A run that cannot be read says so and hides no other; a set that is half written is none that may be deleted."""
    (again(runs / "first", "no json") / "summary.json").write_text("{")
    (again(runs / "first", "no list") / "run.json").write_text("[]")
    (caches.targetset_of(full, "topk") / "targetset.json").unlink()
    (caches.targetset_of(full, "pooled") / "targetset.json").write_text("{")
    told = ledger(full, runs, rate=1.0)
    unknown = {entry.run.name: entry.unknown for entry in told.entries}
    assert unknown["first"] == "" and "not JSON" in unknown["no json"] and "found a list" in unknown["no list"]
    assert unread_sets(told) == []
    printed = caches.command("shards", "ledger", full, "--runs", runs).succeeds().out
    assert f"half written: {caches.targetset_of(full, 'topk').name}: 6 of 6 shards; finish it: " in printed
    assert f"damaged: {caches.targetset_of(full, 'pooled').name}: " in printed


@pytest.mark.parametrize(
    "wrong", [{"steps": 10**400}, {"steps": -5}, {"seconds": -1.0}, {"teacher_forwards": -9}, {"num_parameters": 0.5}]
)
def test_numbers_that_cannot_be_are_damage(full: Path, runs: Path, wrong: dict[str, float]) -> None:
    again(runs / "first", "wrong", lambda summary: summary.update(wrong))
    _, entry = ledger(full, runs, rate=1.0).entries
    assert entry.saved is None and f"{next(iter(wrong))} cannot be" in entry.unknown


def test_two_teachers_of_one_pass_are_not_counted_twice(full: Path, runs: Path, tmp_path: Path) -> None:
    """The commits of both lie in turn, 2 and 6 seconds after each other: neither forward has the other's in it."""
    other = caches.write_teacher(tmp_path / "other", seed=1)
    caches.extract("--teacher", f"run:{other}", "--out", full, *caches.SMALL, "--views", "2", "--codec", "float32")
    first, second = (path for path in sorted((caches.viewset_of(full) / "targets").iterdir()) if "float32" in path.name)
    identities = {path.name: identity_hash(read_targetset_manifest(path).identity) for path in (first, second)}
    learnt = json.loads((runs / "first/run.json").read_text())["cache"]["targetsets"]
    taught, beside = (first, second) if identities[first.name] in learnt else (second, first)
    for folder, start in ((taught, 0), (beside, 6)):
        for number, path in enumerate(sorted((folder / "commits").iterdir())):
            os.utime(path, (0, start + 8 * number))
    (entry,) = ledger(full, runs).entries
    assert entry.hours == pytest.approx(2 / 16 * STEPS * BATCH_SIZE / 3600)
    assert ledger(full, runs).paid_hours == pytest.approx(2 / 16 * 2 * caches.NUM_SAMPLES / 3600)
    printed = caches.command("evaluate", "--runs", runs, "--ledger", "--shards", full).succeeds().out
    assert "python -m shards ledger --teacher_rate says better" in printed  # evaluate has no such flag


def test_a_plan_beside_runs_hides_none_of_them(tmp_path: Path) -> None:
    for folder, name in ((tmp_path, "plan.json"), (tmp_path / "run", "config.yaml"), (tmp_path / "set", "plan.json")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    (tmp_path / "set/commits").mkdir()  # a view set, which is not looked through
    (tmp_path / "set/inside").mkdir()
    (tmp_path / "set/inside/config.yaml").write_text("{}")
    assert list(find_runs(tmp_path)) == [tmp_path / "run"]
