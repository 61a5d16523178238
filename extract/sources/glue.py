"""`glue:TASK`: the nine tasks of GLUE (Wang et al. 2018, arXiv:1804.07461), from the hub or a copy in its layout.

MNLI's two validation splits are `validation_matched` and `validation_mismatched`. The labels of the test splits are
kept back by the benchmark (-1 in the files).
"""

import re
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from extract.sources.base import Source
from extract.sources.sentences import TextColumns, read_table, revision_of, table_source
from extract.sources.through_datasets import open_dataset
from shards.errors import BadInput, UnknownName

REPOSITORY = "nyu-mll/glue"
_ENTAILMENT = ("entailment", "not_entailment")


class GlueTask(NamedTuple):
    """The columns of a task's sentences, and its classes; no classes: a score from 0 to 5."""

    texts: tuple[str, ...]
    class_names: tuple[str, ...] | None


TASKS = {
    "cola": GlueTask(("sentence",), ("unacceptable", "acceptable")),
    "sst2": GlueTask(("sentence",), ("negative", "positive")),
    "mrpc": GlueTask(("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
    "stsb": GlueTask(("sentence1", "sentence2"), None),
    "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate")),
    "mnli": GlueTask(("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "qnli": GlueTask(("question", "sentence"), _ENTAILMENT),
    "rte": GlueTask(("sentence1", "sentence2"), _ENTAILMENT),
    "wnli": GlueTask(("sentence1", "sentence2"), _ENTAILMENT[::-1]),
}


def open_split(task: str, split: str, data_dir: str | None) -> Source:
    """One split of a task, by the split's own name; BadInput where it lacks a column or a label."""
    if task not in TASKS:
        raise UnknownName("GLUE task", task, TASKS)
    flag = f"--data glue:{task}" if data_dir is None else f"--data_dir {data_dir}: GLUE's {task}"
    table, revision = _from_hub(flag, task, split) if data_dir is None else _from_files(flag, data_dir, task, split)
    columns = TextColumns(TASKS[task].texts, "label", TASKS[task].class_names)
    source = table_source(flag, f"glue-{task}", split, revision, table, columns)
    if columns.class_names is None and source.class_names is not None:
        raise BadInput(f"{flag}: column label of split {split} holds classes, expected scores; fetch it again")
    if unlabelled := len(table) - (pc.sum(pc.greater_equal(table.column("label"), 0)).as_py() or 0):
        found = f"{unlabelled:,} of {len(table):,} rows have no label (-1)"
        raise BadInput(f"{flag}: split {split}: {found}: GLUE keeps those of its test splits; give --split validation")
    return source


def _from_hub(flag: str, task: str, split: str) -> tuple[pa.Table, str]:
    opened = open_dataset(flag, REPOSITORY, task, split)
    if opened.split != split:
        raise BadInput(f"{flag}: no split {split}, only {', '.join(sorted(opened.splits))}; give one of these")
    return opened.read(split).data.table, opened.revision


def _from_files(flag: str, data_dir: str, task: str, split: str) -> tuple[pa.Table, str]:
    """DATA_DIR/TASK/SPLIT-00000-of-00001.parquet, as the hub has them; or files in DATA_DIR/TASK/SPLIT/."""
    folder = Path(data_dir).expanduser() / task
    by_split: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        name = re.sub(r"-\d+-of-\d+$", "", file.stem) if file.parent == folder else file.parent.name
        by_split.setdefault(name, []).append(file)
    if not by_split:
        raise BadInput(
            f"{flag}: no parquet file in {folder}; fetch it with hf download {REPOSITORY} --repo-type dataset "
            f"--local-dir {data_dir}"
        )
    if split not in by_split:
        raise BadInput(f"{flag}: no split {split}, only {', '.join(by_split)}; fetch {task}/{split}-*.parquet too")
    files = by_split[split]
    return pa.concat_tables([read_table(flag, file) for file in files]), revision_of(folder, files)
