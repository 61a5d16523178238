"""`sentences:PATH`: a table of sentences, or of pairs of them, each with a class or a score; read whole into memory.

What tasks on sentences are made of: classes of single sentences (CoLA), classes of pairs (MNLI), scores of pairs
(STS-B). A corpus to distil on is a source of documents instead, which are streamed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from extract.sources.base import Source
from extract.sources.columns import parse_options
from extract.sources.labels import column_labels
from extract.sources.naming import content_revision, folder_safe_name
from extract.sources.parquet_footer import read_footer
from extract.sources.row_groups import check_names
from extract.sources.splits import files_revision, find_files, pick_split
from shards.errors import BadInput, one_line

USAGE = "[:texts=COLUMN+COLUMN,label=COLUMN]"
LABELS = ("label", "labels", "score", "similarity_score", "similarity")
SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv")


@dataclass(frozen=True)
class TextColumns:
    """The columns of the sentence, or of both sentences, and of the class or score; its class names where known."""

    texts: tuple[str, ...]
    label: str | None
    class_names: tuple[str, ...] | None = None


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The rows of one .parquet, .jsonl, .csv or .tsv file, or of a folder's parquet files of that split.

    The only label is a column of the usual names, the sentences are the other columns of text, unless PATH names them.
    """
    flag = f"--data sentences:{path}"
    path, chosen = parse_options("sentences", path, USAGE)
    there = Path(path).expanduser()
    if there.is_file() and there.suffix in SUFFIXES:
        root, files = there.parent, [there]
    else:
        root, every_file = find_files(flag, path, ".parquet")
        split, files, _ = pick_split(flag, root, every_file, split)
    table = pa.concat_tables([read_table(flag, file) for file in files])
    columns = _columns(flag, table.schema, chosen)
    name = folder_safe_name(f"sentences-{there.resolve().stem}")
    return table_source(flag, name, split, revision_of(root, files), table, columns)


def read_table(flag: str, file: Path) -> pa.Table:
    """All rows of a table; BadInput where it is none."""
    from pyarrow import csv, json, parquet

    def read() -> pa.Table:
        if file.suffix == ".parquet":
            return parquet.read_table(file)
        if file.suffix == ".jsonl":
            return json.read_json(file)
        quote: Any = '"' if file.suffix == ".csv" else False  # tsv of NLP tasks hold quotes that close nowhere
        options = csv.ParseOptions(delimiter="," if file.suffix == ".csv" else "\t", quote_char=quote)
        table = csv.read_csv(file, parse_options=options)
        if binary := [field.name for field in table.schema if pa.types.is_binary(field.type)]:
            raise pa.ArrowInvalid(f"column {binary[0]} is not UTF-8")
        return table

    try:
        table = read()
        table.validate(full=True)  # a reader of parquet does not look at the texts
        check_names(table.column_names)  # which raises where they are not UTF-8
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{flag}: {file} cannot be read ({one_line(error):.200}); fetch it again") from error


def revision_of(root: Path, files: Sequence[Path]) -> str:
    """What changes when the files do: names, sizes, and parquet's footers."""
    return files_revision(
        root, files, lambda file: read_footer(file) if file.suffix == ".parquet" else file.read_bytes()
    )


def table_source(flag: str, name: str, split: str, revision: str, table: pa.Table, columns: TextColumns) -> Source:
    """The rows of `table` as samples of one or two texts; a label of floating point is a score, else it is a class.

    Raises BadInput for a column that is missing, of another type, or empty in some row.
    """
    wanted = (*columns.texts, *([columns.label] if columns.label else ()))
    if lacking := [column for column in wanted if column not in table.column_names]:
        raise BadInput(
            f"{flag}: split {split} has no column {lacking[0]}, only {', '.join(table.column_names)}: fetch it again"
        )
    for column in columns.texts:
        values = table.column(column)
        if not _is_text(values.type):
            raise BadInput(f"{flag}: column {column} of split {split} holds {values.type}, expected text")
        if values.null_count:
            row = values.is_null().index(True).as_py()
            raise BadInput(f"{flag}: column {column} of split {split} is empty in row {row}; mend or remove the row")
    texts = [table.column(column).combine_chunks() for column in columns.texts]
    labels, class_names, parts = _labels(f"{flag}: split {split}", table, columns)

    def fetch(index: int) -> tuple[None, float | int | None, tuple[str, ...]]:
        return None, labels[index] if labels else None, tuple(column[index].as_py() for column in texts)

    return Source(
        name=name,
        revision=content_revision([revision, *wanted, *parts]),
        split=split,
        keys=[f"{split}-{row:06d}" for row in range(len(table))],
        class_names=class_names,
        fetch=fetch,
        has=frozenset({"texts"}),
        encoded=False,
    )


def _labels(
    where: str, table: pa.Table, columns: TextColumns
) -> tuple[Sequence[float | int | None], tuple[str, ...] | None, tuple[str, ...]]:
    """Each row's score or class (None where it is negative or null), the classes' names, what a revision must cover."""
    if columns.label is None:
        return [], None, ()
    values = table.column(columns.label)
    if pa.types.is_floating(values.type):
        scores = values.to_pylist()
        return [None if score is None or not score >= 0 else score for score in scores], None, ()
    names = columns.class_names or _class_names(table.schema, columns.label)
    labels = column_labels(where, columns.label, names, values.to_pylist, values.to_pylist)
    return labels.numbers, labels.names, labels.parts


def _class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The names that the hub's files keep of a column's classes."""
    from datasets import Features

    return tuple(getattr(Features.from_arrow_schema(schema)[column], "names", None) or ()) or None


def _columns(flag: str, schema: pa.Schema, chosen: Mapping[str, str]) -> TextColumns:
    """The chosen columns, else the only ones that fit."""
    labels = [chosen["label"]] if "label" in chosen else [name for name in LABELS if name in schema.names]
    texts = tuple(chosen["texts"].split("+")) if "texts" in chosen else _texts(schema, labels)
    if len(labels) != 1 or not 1 <= len(texts) <= 2:
        found = f"{len(texts)} columns of text and {len(labels)} of labels in {', '.join(schema.names)}"
        raise BadInput(f"{flag}: expected one or two sentences and one label, found {found}; name them: {USAGE}")
    return TextColumns(texts, labels[0])


def _texts(schema: pa.Schema, labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(field.name for field in schema if field.name not in labels and _is_text(field.type))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
