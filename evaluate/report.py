"""Report: one run's results, or many runs' beside each other, as tables on the terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.runs import EVALUATION, ON, SUMMARY, find_runs, missing_files, read_evaluation
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.errors import BadInput, one_line
from shards.sealed import read_object

COLUMNS = {
    "top-1": ("accuracy", "top1"),
    "top-5": ("accuracy", "top5"),
    "knn": ("knn", "top1"),
    "linear": ("linear", "top1"),
    "finetune": ("finetune", "top1"),
    "agreement": ("fidelity", "agreement"),
    "KL": ("fidelity", "kl"),
    "cosine": ("fidelity", "cosine"),
    "CKA": ("fidelity", "cka"),
}
"""The metrics of the table over runs: the heading, and where evaluation.json has it."""

COSTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "student": ("student", str),
    "parameters": ("num_parameters", "{:,}".format),
    "seconds": ("seconds", "{:,.0f}".format),
    "steps": ("steps", "{:,}".format),
    "teacher forwards": ("teacher_forwards", "{:,}".format),
    "cache": ("cache_bytes", human_bytes),
}
"""What the table over runs takes from summary.json: the heading, the field, and how it is shown."""

_METRICS = {metric for _, metric in COLUMNS.values()} | {"cosine_worst_percentile", "train_top1", "train_loss"}
_NO_SETTINGS = _METRICS | {"seconds", "weights_sha256", "folder"}
_NOTHING = "-"


def print_results(results: dict[str, dict[str, Any]]) -> None:
    """One line a metric of each task."""
    rows = [
        [task, metric, f"{record[metric]:.4f}", f"{record['num_samples']:,}", f"{record['data']} {record['split']}"]
        for task, record in results.items()
        for metric in record
        if metric in _METRICS
    ]
    print_table(["task", "metric", "value", "samples", "on"], rows, right=("value", "samples"))


def print_runs(folder: Path) -> None:
    """One line a run at or below `folder`, '-' where something was not measured; half-written ones are named below."""
    whole, half = list[Path](), list[Path]()
    for run in find_runs(folder):
        (half if missing_files(run) else whole).append(run)
    if not whole:
        found = f"{len(half)} half-written runs ({half[0]}); finish them with python -m distill" if half else "no runs"
        raise BadInput(f"--runs {folder}: {found}; give a folder that holds finished runs")
    measured, rows, unreadable = list[Measured](), list[list[str]](), list[BadInput]()
    for run in whole:
        try:
            one = Measured.read(run)
            rows += one.rows(_name(run, folder))
            measured.append(one)
        except BadInput as error:
            unreadable.append(error)
    if not measured:
        raise unreadable[0]
    headings = ["run", *COSTS, *COLUMNS]
    rows += _extractions(measured)
    kept = [index for index in range(len(headings)) if any(row[index] != _NOTHING for row in rows)]
    rows = [[row[index] for index in kept] for row in rows]
    print_table([headings[index] for index in kept], rows, right=[*list(COSTS)[1:], *COLUMNS])
    _warn_of_differences([one.evaluation for one in measured])
    for problem in unreadable:
        print(f"evaluate: left out: {one_line(problem)}")
    tail = f"; half written: {', '.join(_name(run, folder) for run in half)}" if half else ""
    counted = "1 run" if len(measured) == 1 else f"{len(measured)} runs"
    print(f"evaluate: {counted} in {folder}{tail}")


@dataclass(frozen=True)
class Measured:
    """A run as the table has it: what training cost, and what was measured."""

    run: Path
    summary: dict[str, Any]
    evaluation: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, run: Path) -> "Measured":
        """The run's two documents; BadInput when one cannot be read."""
        summary = read_object(run / SUMMARY, "run the same distill command to finish the run")
        return cls(run, summary, read_evaluation(run))

    def rows(self, name: str) -> list[list[str]]:
        """Its row, and one for each other data that it was measured on; BadInput for a value that no cell can show."""
        costs = [_shown(self.run / SUMMARY, self.summary, field, show) for field, show in COSTS.values()]
        others = dict.fromkeys(key.partition(ON)[2] for key in sorted(self.evaluation) if ON in key)
        return [[name, *costs, *self._cells("")]] + [
            [f"{name}{ON}{other}", *[_NOTHING] * len(COSTS), *self._cells(f"{ON}{other}")] for other in others
        ]

    def _cells(self, where: str) -> list[str]:
        return [
            _shown(self.run / EVALUATION, self.evaluation.get(task + where, {}), metric, "{:.4f}".format)
            for task, metric in COLUMNS.values()
        ]


def _warn_of_differences(evaluations: list[dict[str, dict[str, Any]]]) -> None:
    """Say where a column compares what was not measured alike (another split, limit, k ...)."""
    for task in dict.fromkeys(task for task, _ in COLUMNS.values()):
        records = [held[task] for held in evaluations if task in held]
        fields = sorted({field for record in records for field in record} - _NO_SETTINGS)
        found = {field: sorted({str(record.get(field)) for record in records}) for field in fields}
        if unlike := [f"{field} ({', '.join(values)})" for field, values in found.items() if len(values) > 1]:
            print(f"evaluate: {task} was not measured alike in all runs: {', '.join(unlike)}")


def _name(run: Path, folder: Path) -> str:
    return run.name if run == folder else str(run.relative_to(folder))


def _extractions(runs: list[Measured]) -> list[list[str]]:
    """A row for each target set that the runs learnt from: its teacher forwards were paid once for all of them."""
    found = {one["targetset"]: one for run in runs for one in run.summary.get("extracted", [])}
    shown = {"teacher forwards": "teacher_forwards", "cache": "bytes"}
    return [
        [f"extract {name}", *(COSTS[head][1](one[shown[head]]) if head in shown else _NOTHING for head in COSTS)]
        + [_NOTHING] * len(COLUMNS)
        for name, one in sorted(found.items())
    ]


def _shown(path: Path, record: dict[str, Any], field: str, show: Callable[[Any], str]) -> str:
    value = record.get(field)
    if value is not None and show is not str and type(value) not in (int, float):
        raise BadInput(f"{path}: {field}: expected a number, found {value!r:.40}; remove the file or mend it")
    return _NOTHING if value is None else show(value)
