"""Measure: one run through the tasks asked for, each written down as soon as it is done."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.report import print_results
from evaluate.runs import EVALUATION, check_run, merge_evaluation
from evaluate.student import load_student
from evaluate.tasks import load_task, task_names
from shards.arguments import as_yaml
from shards.commit import write_atomically


def measure_run(config: EvaluateConfig) -> None:
    """RUN/evaluation.json holds the results of the tasks, and RUN/evaluate-TASK.yaml the flags that give each again."""
    assert config.run is not None and config.task is not None
    run, names = Path(config.run), task_names(config.task)
    check_run(run)
    tasks = {name: load_task(name) for name in names}
    evaluation = Evaluation(config, run, load_student(run, config.device, config.precision))
    results: dict[str, dict[str, Any]] = {}
    for task, measure in tasks.items():
        start = time.monotonic()
        measured = measure(evaluation)
        results[task] = {**measured, "precision": config.precision, "seconds": round(time.monotonic() - start, 3)}
        merge_evaluation(run, task, results[task])
        write_atomically(run / f"evaluate-{task}.yaml", as_yaml({**asdict(config), "task": task}))
    print_results(results)
    samples = sum(record["num_samples"] for record in results.values())
    seconds = sum(record["seconds"] for record in results.values())
    rate = f"{samples / max(seconds, 1e-9):,.0f} samples/s"
    print(f"evaluate: {', '.join(tasks)} on {samples:,} samples in {seconds:,.1f} s ({rate}); {run / EVALUATION}")
