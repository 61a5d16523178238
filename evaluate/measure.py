"""Measure: one run through the tasks asked for, each written down as soon as it is done."""

import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.pairs import part_for
from evaluate.preset import as_facts, check_preset, resolve
from evaluate.report import Evaluations, print_results
from evaluate.runs import check_run, flags_path, merge_evaluation
from evaluate.student import load_student
from evaluate.tasks import load_task, task_names
from evaluate.teacher import teacher_beside
from shards.command.arguments import as_yaml
from shards.command.settings import as_values
from shards.commit import write_atomically
from shards.runs import EVALUATION, weights_of


def measure_run(config: EvaluateConfig) -> None:
    """RUN/evaluation.json holds the results of the tasks, and RUN/evaluate-TASK.yaml the flags that give each again."""
    assert config.run is not None and config.task is not None
    run, names = Path(config.run), task_names(config.task)
    check_run(run)
    check_preset(config, names)
    student = load_student(run, config.device_name, config.precision)
    evaluation = Evaluation(config, run, student, weights_of(run), run)
    teacher = teacher_beside(evaluation, config.teacher) if config.teacher is not None else None
    tasks = {name: load_task(name) for name in names}
    settings = {
        name: resolve(name, task.Settings, config, lambda: evaluation.data()[0]) if hasattr(task, "Settings") else None
        for name, task in tasks.items()
    }
    results, taught = Evaluations(), Evaluations()
    try:
        for name, task in tasks.items():
            if teacher is not None:
                taught[name] = _measured(teacher, name, task, settings[name])
            results[name] = _measured(evaluation, name, task, settings[name])
    finally:
        if results:  # also those of the tasks before one that cannot be done
            print_results(results, taught if teacher else None)
    costs = []
    for name, record in results.items():
        samples, seconds = record["num_samples"], record["seconds"]
        rate = f"{samples / max(seconds, 1e-9):,.0f} samples/s"
        costs.append(f"{name} on {samples:,} samples in {seconds:,.1f} s ({rate})")
    beside = f"; the teacher's: {teacher.folder / EVALUATION}" if teacher else ""
    print(f"evaluate: {', '.join(costs)}; {run / EVALUATION}{beside}")


def _measured(evaluation: Evaluation, name: str, task: ModuleType, settings: Any) -> dict[str, Any]:
    """The results of one task, which are written down."""
    config, folder, start = evaluation.config, evaluation.folder, time.monotonic()
    measured = part_for(evaluation, getattr(task, "TAKES", None))
    record = ({} if settings is None else as_facts(settings)) | task.measure(measured, settings)
    if measured is not evaluation:
        record["part"] = measured.student.inputs.modality
    record |= {"precision": config.precision, "seconds": round(time.monotonic() - start, 3)}
    if kept := merge_evaluation(folder, name, record):
        print(f"evaluate: other data than before: the former result stays as {kept!r}")
    flags = {**asdict(config), "task": name, "preset": None if settings is None else as_values(settings)}
    write_atomically(flags_path(folder, name), as_yaml(flags))
    return record
