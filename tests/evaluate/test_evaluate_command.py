"""The command: its errors, what it writes, its tables."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from caches import command
from digits_bench import Bench

from evaluate.__main__ import main
from evaluate.report import COLUMNS
from evaluate.tasks import REGISTRY
from shards.errors import BadInput, UnknownName
from shards.runs import find_runs

OF_TEXTS = ("text_classification", "glue", "sts")
OF_PAIRS = ("retrieval", "zeroshot")


@pytest.mark.parametrize("task", OF_TEXTS)
def test_a_task_of_texts_is_not_for_a_student_of_images(bench: Bench, task: str) -> None:
    with pytest.raises(BadInput, match=f"--task {task}: measures on texts, .*run takes image; give another task"):
        main(["--run", str(bench.run()), "--task", task])


@pytest.mark.parametrize("task", [task for task in REGISTRY if task not in OF_TEXTS + OF_PAIRS])
def test_every_task_needs_no_more_than_the_run(bench: Bench, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = bench.run()
    epochs = ["--epochs", "1"] if task == "finetune" else []
    main(["--run", str(run), "--task", task, *epochs])
    record = json.loads((run / "evaluation.json").read_text())[task]
    assert record["num_samples"] == 359 and record["split"] == "validation" and "digits" in record["data"]
    metrics = [
        metric for name, metric in COLUMNS.values() if name == task and metric != "cka"
    ]  # features alone have it
    assert metrics and all(math.isfinite(record[metric]) for metric in metrics)
    out = capsys.readouterr().out
    closing = out.splitlines()[-1]
    assert task in closing and "359 samples" in closing and "samples/s" in closing and str(run) in closing
    assert all(metric in out for metric in metrics)


def test_saved_flags_measure_the_same_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    run = bench.run()
    main(["--run", str(run), "--task", "accuracy,knn", "--k", "3", "--limit", "50"])
    closing = capsys.readouterr().out.splitlines()[-1]
    assert "accuracy on 50 samples in" in closing and ", knn on 50 samples in" in closing  # not 100 of anything
    held = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").unlink()
    main(["--config", str(run / "evaluate-knn.yaml")])
    again = json.loads((run / "evaluation.json").read_text())
    assert set(again) == {"knn"} and set(held) == {"accuracy", "knn"}
    assert {**again["knn"], "seconds": 0} == {**held["knn"], "seconds": 0}
    flags = run / "evaluate-knn.yaml"
    flags.write_text(flags.read_text() + "k: 3\n")  # as files of before have it beside the preset
    main(["--config", str(flags)])
    assert json.loads((run / "evaluation.json").read_text())["knn"]["k"] == 3


def test_results_are_merged_and_results_of_other_weights_dropped(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run), "--limit", "20"])
    main(["--run", str(run), "--task", "knn", "--limit", "20"])
    assert set(json.loads((run / "evaluation.json").read_text())) == {"accuracy", "knn"}
    for name in ("student.json", "student.safetensors"):
        (run / name).write_bytes((bench.teacher / name).read_bytes())
    main(["--run", str(run), "--task", "knn", "--limit", "20"])
    assert set(json.loads((run / "evaluation.json").read_text())) == {"knn"}
    (run / "evaluation.json").write_text("[")
    with pytest.raises(BadInput, match=r"evaluation.json: not JSON .*; remove it"):
        main(["--run", str(run), "--limit", "20"])


def test_flags_that_cannot_be(bench: Bench) -> None:
    run = str(bench.run())
    for flags, message in {
        (): "give --run RUN to measure one run, or --runs DIR",
        ("--run", run, "--runs", run): "one of the two",
        ("--runs", run, "--task", "knn"): "--runs only prints",
        ("--run", run, "--task", "knn", "--k", "0"): "--preset knn: k 0: expected a whole number of at least 1",
        ("--run", run, "--task", "knn", "--k", "3", "--preset", "knn"): "--k 3: is an option of --preset now",
        ("--run", run, "--task", "linear", "--epochs", "0"): "--epochs 0: expected a whole number of at least 1",
        ("--run", run, "--lr", "-1"): "--lr -1.0: expected a number above 0",
        ("--run", run, "--device", "tpu"): "--device tpu: expected auto, cpu, cuda",
        ("--run", run, "--device", "cuda:63"): "--device cuda:63: expected auto, cpu, cuda or cuda:N; torch sees",
        ("--run", run, "--split", "other"): "no split 'other'",
        ("--run", run, "--tsk", "knn"): "did you mean --task",
        ("--run", run, "--shards", "/nowhere"): "/nowhere: no such folder",
        ("--run", run, "--shards", run): "holds no view set",
        ("--run", run, "--task", "knn", "--shards", str(bench.cache)): "its views are augmented",
    }.items():
        with pytest.raises(BadInput, match=message):
            main(list(flags))
    with pytest.raises(UnknownName, match="unknown task 'fidelty': did you mean fidelity"):
        main(["--run", run, "--task", "accuracy,fidelty"])


def test_stored_views_of_another_size_are_refused(bench: Bench) -> None:
    from extract.__main__ import main as extract

    other = bench.scratch / "cache"
    extract(["--teacher", "none", "--out", str(other), "--data", "digits", "--split", "validation",
             "--image_size", "8", "--limit", "5"])  # fmt: skip
    for task in ("accuracy", "fidelity"):
        with pytest.raises(BadInput, match=r"its views have pixels of \(8, 8, 3\), the network takes \(16, 16, 3\)"):
            main(["--run", str(bench.run(task)), "--task", task, "--shards", str(other)])


def test_runs_that_are_none_or_half_written(bench: Bench) -> None:
    run = bench.run()
    with pytest.raises(BadInput, match=rf"no run \(no student.json, student.safetensors\); a run below it is {run}"):
        main(["--run", str(run.parent)])
    with pytest.raises(BadInput, match="no such folder; python -m distill --run_dir"):
        main(["--run", str(run / "no")])
    (run / "summary.json").unlink()
    with pytest.raises(BadInput, match=r"summary.json: missing; the run is half written"):
        main(["--run", str(run)])
    main(["--run", str(run), "--data", "digits", "--limit", "5"])  # what the summary says is not needed then
    (run / "student.json").unlink()
    with pytest.raises(BadInput, match=r"half written \(no student.json\); the same distill command finishes it"):
        main(["--run", str(run)])


def test_the_table_over_runs(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, half = bench.run("[red]a"), bench.run("deep/er/b"), bench.run("half")
    (half / "student.json").unlink()
    main(["--run", str(first), "--limit", "50"])
    main(["--run", str(second), "--task", "accuracy,knn"])
    capsys.readouterr()
    main(["--runs", str(bench.scratch / "runs")])
    lines = capsys.readouterr().out.splitlines()
    heading = lines[0]
    for name in ("run", "student", "parameters", "seconds", "steps", "teacher forwards", "cache", "top-1", "knn"):
        assert name in heading
    assert not {"linear", "finetune", "CKA", "KL"} & set(heading.split())  # no run has a value
    rows = {line.split()[0]: line.split() for line in lines[1:3]}
    held = json.loads((second / "evaluation.json").read_text())
    assert rows["[red]a"][1:3] == ["convnet", "1,234"] and rows["[red]a"][-1] == "-"
    assert rows["deep/er/b"][3:8] == ["6", "22", "300", "1.5", "MB"]
    assert rows["deep/er/b"][8:] == [f"{held['accuracy'][m]:.4f}" for m in ("top1", "top5")] + [
        f"{held['knn']['top1']:.4f}"
    ]
    assert "accuracy was not measured alike in all runs: num_samples (359, 50)" in lines[3]
    assert lines[-1].endswith("half written: half") and "2 runs" in lines[-1]
    main(["--runs", str(second)])  # a run itself is a table of one
    assert "1 run in" in capsys.readouterr().out
    with pytest.raises(BadInput, match="no runs; give a folder that holds finished runs"):
        main(["--runs", str(bench.cache)])
    with pytest.raises(BadInput, match="1 half-written runs"):
        main(["--runs", str(half)])


def test_every_metric_has_its_column(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [bench.run(name) for name in "ab"]
    weights = json.loads((runs[0] / "student.json").read_text())["weights"]["sha256"]
    for number, run in enumerate(runs):
        held: dict[str, dict[str, object]] = {}
        for index, (task, metric) in enumerate(COLUMNS.values()):
            held.setdefault(task, {"weights_sha256": weights})[metric] = (index + 1) / 100 + number / 1000
        (run / "evaluation.json").write_text(json.dumps(held))
    main(["--runs", str(bench.scratch / "runs")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-len(COLUMNS) :] == list(COLUMNS)
    assert lines[2].split()[-len(COLUMNS) :] == [f"{(index + 1) / 100 + 0.001:.4f}" for index in range(len(COLUMNS))]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[", "not JSON"),
        ("[1]", "expected an object, found a list"),
        ('{"accuracy": 3}', "accuracy: expected a record, found 3"),
        ('{"accuracy": {"top1": "much", "weights_sha256": "WEIGHTS"}}', "top1: expected a number, found 'much'"),
        (
            f'{{"accuracy": {{"top1": 1{"0" * 400}, "weights_sha256": "WEIGHTS"}}}}',
            "top1: expected a number, found one of",
        ),
        ("{" * 100_000, "not JSON"),
        (None, "cannot be read"),
    ],
    ids=["cut", "list", "number", "word", "large", "deep", "folder"],
)
def test_a_run_whose_measurements_are_damaged_hides_no_other(
    bench: Bench, content: str | None, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = bench.run("good"), bench.run("bad")
    main(["--run", str(good), "--limit", "50"])
    if content is None:
        (bad / "evaluation.json").mkdir()
    else:
        weights = json.loads((bad / "student.json").read_text())["weights"]["sha256"]
        (bad / "evaluation.json").write_text(content.replace("WEIGHTS", weights))
    capsys.readouterr()
    main(["--runs", str(bench.scratch / "runs")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("good ") and "1 run in" in lines[-1]
    assert f"left out: {bad}/evaluation.json: {problem}" in lines[-2]
    (good / "evaluation.json").unlink()
    with pytest.raises(BadInput, match=problem):
        main(["--runs", str(bad)])


def test_finding_runs_leaves_caches_and_links_alone(bench: Bench) -> None:
    run = bench.run()
    (run / "wandb" / "files").mkdir(parents=True)
    (run / "wandb" / "files" / "config.yaml").write_text("")
    (run.parent / "again").symlink_to(run)
    assert list(find_runs(bench.scratch)) == [run]


def test_exit_status_and_one_line(bench: Bench) -> None:
    wrong = command("evaluate", "--run", bench.scratch / "no")
    wrong.refuses("evaluate: ")
    right = command("evaluate", "--run", bench.run(), "--limit", "5").succeeds()
    assert right.err == ""


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom evaluate.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'lightning', 'datasets', 'sklearn', 'torchmetrics', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert "--targetset" in done.stdout and "fidelity" in done.stdout


@pytest.mark.parametrize(
    "costs",
    [
        *(3, ["a"], [{"bytes": 1}], [{"targetset": "a", "teacher_forwards": "b", "bytes": 1}]),
        [{"targetset": ["a"], "teacher_forwards": 1, "bytes": 1}],
    ],
)
def test_a_run_whose_costs_are_damaged_hides_no_other(
    bench: Bench, costs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("good"), bench.run("bad")
    path = bench.scratch / "runs/bad/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extracted": costs}))
    main(["--runs", str(bench.scratch / "runs")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("good ") and "1 run in" in lines[-1] and f"left out: {path}: " in lines[-2]
