"""--teacher: the teacher under the same tasks, the share that a student keeps, one folder of results for all runs."""

import json
from pathlib import Path

import pytest
from caches import Outcome, command
from digits_bench import Bench


def measured(run: Path, *flags: str | Path) -> Outcome:
    return command("evaluate", "--run", run, "--limit", "200", *flags)


@pytest.mark.slow
def test_the_table_has_the_teachers_scores_and_the_share_that_is_kept(bench: Bench) -> None:
    run = bench.run()
    spec = f"run:{bench.teacher}"
    out = measured(run, "--teacher", spec, "--task", "accuracy,fidelity,knn").succeeds().out
    (folder,) = run.parent.glob("teacher-run-teacher-*")
    student, teacher = (json.loads((each / "evaluation.json").read_bytes()) for each in (run, folder))
    lines = {tuple(line.split()[:2]): line.split() for line in out.splitlines()}
    assert lines["task", "metric"] == ["task", "metric", "value", "teacher", "kept", "samples", "on"]
    for task, metric in (("accuracy", "top1"), ("knn", "top1"), ("fidelity", "agreement")):
        value, taught = student[task][metric], teacher[task][metric]
        assert lines[task, metric][2:5] == [f"{value:.4f}", f"{taught:.4f}", f"{value / taught:.1%}"]
    assert lines["fidelity", "kl"][4] == "-"  # of which less is better
    # a teacher agrees with itself
    assert teacher["fidelity"]["agreement"] == 1 and teacher["fidelity"]["kl"] < 1e-6
    weights = json.loads((bench.teacher / "student.json").read_bytes())["weights"]["sha256"]
    assert teacher["knn"]["weights_sha256"] != weights != student["knn"]["weights_sha256"]
    # the other data's result stays, and the flags give it again
    assert (folder / "evaluate-knn.yaml").is_file()
    assert measured(bench.run("other"), "--teacher", spec, "--task", "knn").succeeds()
    assert list(run.parent.glob("teacher-*")) == [folder]  # one for all runs


def test_the_table_over_runs_has_a_row_for_it(bench: Bench) -> None:
    run = bench.run()
    measured(run, "--teacher", f"run:{bench.teacher}", "--task", "knn").succeeds()
    out = command("evaluate", "--runs", run.parent).succeeds().out
    row = next(line for line in out.splitlines() if line.startswith("teacher-run-teacher-"))
    assert "run-teacher (teacher)" in row and "2 runs in" in out


def test_what_cannot_be_measured_beside_it_is_told(bench: Bench) -> None:
    run = bench.run()
    measured(run, "--teacher", "resnet19").refuses("unknown teacher 'resnet19'")
    measured(run, "--teacher", f"run:{bench.teacher}", "--task", "knn").succeeds()
    (folder,) = run.parent.glob("teacher-*")
    measured(folder, "--task", "knn").refuses("holds a teacher's results; give a run")
    command("evaluate", "--runs", run.parent, "--teacher", "x").refuses("--runs only prints")
