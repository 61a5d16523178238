"""Report: one run's results, or many runs' beside each other, as tables on the terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shards.command.progress import counted, human_bytes
from shards.command.tables import print_table
from shards.errors import BadInput, one_line
from shards.runs import EVALUATION, ON, SUMMARY, find_runs, missing_files, read_evaluation, read_summary

COLUMNS = {
    "top-1": ("accuracy", "top1"),
    "top-5": ("accuracy", "top5"),
    "knn": ("knn", "top1"),
    "linear": ("linear", "top1"),
    "finetune": ("finetune", "top1"),
    "texts": ("text_classification", "top1"),
    "GLUE": ("glue", "average"),
    "STS": ("sts", "spearman"),
    "agreement": ("fidelity", "agreement"),
    "KL": ("fidelity", "kl"),
    "cosine": ("fidelity", "cosine"),
    "CKA": ("fidelity", "cka"),
    "i2t-R@1": ("retrieval", "i2t_r1"),
    "t2i-R@1": ("retrieval", "t2i_r1"),
    "i2t-rank": ("retrieval", "i2t_median_rank"),
    "t2i-rank": ("retrieval", "t2i_median_rank"),
    "zeroshot": ("zeroshot", "top1"),
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

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
_METRICS = {metric for _, metric in COLUMNS.values()}
_METRICS |= {"cosine_worst_percentile", "train_top1", "train_loss", "pearson", "f1"}
_METRICS |= {f"{way}_{metric}" for way in ("i2t", "t2i") for metric in ("r5", "r10", "median_rank_1k")}
_LOSSES = {"kl", "train_loss", *(metric for metric in _METRICS if "rank" in metric)}
_NO_SETTINGS = {"seconds", "weights_sha256", "folder", "samples", "train_losses", "chance"}
_NOTHING = "-"
Evaluations = dict[str, dict[str, Any]]
"""What evaluation.json holds of one run: a record a task."""


def print_results(results: Evaluations, teacher: Evaluations | None = None) -> None:
    """One line a metric of each task; beside the teacher's, where it is measured too, and the share of it.

    What is had by chance stands beside the metrics of tasks that tell it.
    """
    headings, rows = ["task", "metric", "value", "samples", "on"], list[list[str]]()
    guessed = any("chance" in record for record in results.values())
    if guessed:
        headings[3:3] = ["chance"]
    if teacher is not None:
        headings[3:3] = ["teacher", "kept"]
    for task, record in results.items():
        for metric in filter(_is_metric, record):
            samples = record.get("samples", {}).get(metric.partition("_")[0], record["num_samples"])
            value, taught = record[metric], (teacher or {}).get(task, {}).get(metric)
            beside = [_NOTHING if taught is None else f"{taught:.4f}", _kept(metric, value, taught)]
            on = [f"{samples:,}", f"{record['data']} {record['split']}"]
            chance = record.get("chance", {}).get(metric)
            by_chance = [_NOTHING if chance is None else f"{chance:.4f}"] if guessed else []
            rows.append([task, metric, f"{value:.4f}", *(beside if teacher is not None else []), *by_chance, *on])
    print_table(headings, rows, right=("value", "teacher", "kept", "chance", "samples"))


def _is_metric(name: str) -> bool:
    return name in _METRICS or name.partition("_")[0] in GLUE


def _kept(metric: str, value: float, taught: float | None) -> str:
    """The share of the teacher's score, of which more is better."""
    return _NOTHING if metric in _LOSSES or taught is None or taught <= 0 else f"{value / taught:.1%}"


def print_runs(folder: Path) -> None:
    """One line a run at or below `folder`, '-' where something was not measured; half-written ones are named below."""
    whole, half = list[Path](), list[Path]()
    for run in find_runs(folder):
        (half if missing_files(run) else whole).append(run)
    if not whole:
        there = f"{len(half)} half-written runs ({half[0]}); finish them with python -m distill" if half else "no runs"
        raise BadInput(f"--runs {folder}: {there}; give a folder that holds finished runs")
    rows, evaluations, unreadable = list[list[str]](), list[Evaluations](), list[BadInput]()
    extractions: dict[str, list[str]] = {}
    for run in whole:
        try:
            summary = read_summary(run)
            evaluation = read_evaluation(run)
            for cost in _extractions(run, summary):  # paid once for all runs
                paid = {"teacher_forwards": cost["teacher_forwards"], "cache_bytes": cost["bytes"]}
                extractions[cost["targetset"]] = _row(run, f"extract {cost['targetset']}", paid, {})
            rows += _rows_of(run, _name(run, folder), summary, evaluation)
            evaluations.append(evaluation)
        except BadInput as error:
            unreadable.append(error)
    if not rows:
        raise unreadable[0]
    headings = ["run", *COSTS, *COLUMNS]
    rows += [extractions[name] for name in sorted(extractions)]
    kept = [index for index in range(len(headings)) if any(row[index] != _NOTHING for row in rows)]
    rows = [[row[index] for index in kept] for row in rows]
    print_table([headings[index] for index in kept], rows, right=[*list(COSTS)[1:], *COLUMNS])
    _warn_of_differences(evaluations)
    for problem in unreadable:
        print(f"evaluate: left out: {one_line(problem)}")
    tail = f"; half written: {', '.join(_name(run, folder) for run in half)}" if half else ""
    print(f"evaluate: {counted(len(evaluations), 'run')} in {folder}{tail}")


def _extractions(run: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What the target sets of a run took to extract; BadInput where that is no list of costs."""
    costs = summary.get("extracted", [])
    fields = {"targetset", "teacher_forwards", "bytes"}
    if isinstance(costs, list) and all(
        isinstance(cost, dict) and fields <= cost.keys() and isinstance(cost["targetset"], str) for cost in costs
    ):
        return costs
    raise BadInput(f"{run / SUMMARY}: extracted: expected a list of costs, found {costs!r:.40}; run distill anew")


def _rows_of(run: Path, name: str, summary: dict[str, Any], evaluation: Evaluations) -> list[list[str]]:
    """The run's row, and one for each other data that it was measured on; BadInput for a value of no number."""
    others = dict.fromkeys(key.partition(ON)[2] for key in sorted(evaluation) if ON in key)
    further = [_row(run, f"{name}{ON}{other}", {}, evaluation, f"{ON}{other}") for other in others]
    return [_row(run, name, summary, evaluation), *further]


def _row(run: Path, name: str, costs: dict[str, Any], evaluation: Evaluations, where: str = "") -> list[str]:
    """The cells of one line: of evaluation.json the results under "TASK`where`"."""
    metrics = [(evaluation.get(task + where, {}), metric) for task, metric in COLUMNS.values()]
    shown = [_shown(run / EVALUATION, record, metric, "{:.4f}".format) for record, metric in metrics]
    return [name, *(_shown(run / SUMMARY, costs, field, show) for field, show in COSTS.values()), *shown]


def _warn_of_differences(evaluations: list[Evaluations]) -> None:
    """Say where a column compares what was not measured alike (another split, limit, k ...)."""
    for task in dict.fromkeys(task for task, _ in COLUMNS.values()):
        records = [evaluation[task] for evaluation in evaluations if task in evaluation]
        told = {field for record in records for field in record} - _NO_SETTINGS
        fields = sorted(field for field in told if not _is_metric(field))
        values = {field: sorted({str(record.get(field)) for record in records}) for field in fields}
        if unlike := [f"{field} ({', '.join(values[field])})" for field in fields if len(values[field]) > 1]:
            print(f"evaluate: {task} was not measured alike in all runs: {', '.join(unlike)}")


def _name(run: Path, folder: Path) -> str:
    return run.name if run == folder else str(run.relative_to(folder))


def _shown(path: Path, record: dict[str, Any], field: str, show: Callable[[Any], str]) -> str:
    value = record.get(field)
    found = f"{value!r:.40}" if type(value) is not int else f"one of {value.bit_length():,} bits"
    try:
        if value is None or show is str or type(value) in (int, float):
            return _NOTHING if value is None else show(value)
    except OverflowError:  # more than a float holds
        pass
    raise BadInput(f"{path}: {field}: expected a number, found {found}; remove the file or mend it")
