"""`text:PATH` and `text_files:PATH`: a corpus in .txt, .jsonl or .parquet files, read as a stream."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from extract.sources.base import Document, Source
from extract.sources.columns import ColumnChoice, parse_columns
from extract.sources.documents import MAX_DOCUMENT_BYTES, cleaned, read_document, read_lines, text_source
from extract.sources.labels import NO_LABELS, Label, number_labels
from extract.sources.naming import folder_safe_name, without_halves
from extract.sources.splits import SplitFiles, files_revision, find_files, found_files, pick_split
from extract.sources.tar_members import unpacking
from shards.command.progress import counted
from shards.errors import BadInput

USAGE = "[:text=FIELD,label=FIELD]"
"""What may follow the path in `--data text:`, for .jsonl and .parquet files."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The documents of the files of one split, in the order of the files' names and of the lines in each.

    A line is a document, of a .jsonl file the line's field `text` or the chosen one. The revision covers each file's
    name and size. Labels are those of a chosen field, which is read when the source is opened. Raises BadInput for
    files of several kinds, and for a field that the first line lacks.
    """
    flag = f"--data text:{path}"
    pattern, choice = parse_columns("text", path, USAGE)
    root, every_file, left_out = _find(flag, pattern, ".txt", ".jsonl", ".parquet")
    endings = sorted({file.suffix.lower() for file in every_file})
    if len(endings) > 1:
        raise BadInput(f"{flag}: holds {' and '.join(endings)} files: give a quoted pattern of one kind")
    if endings == [".parquet"]:
        from extract.sources.parquet import open_parquet

        return open_parquet(flag, pattern, split, replace(choice, text=choice.text or "text"))
    chosen = pick_split(flag, root, every_file, split)
    if endings == [".jsonl"]:
        source = _open_json(flag, root, chosen, choice)
        return replace(source, notes=(*source.notes, *left_out))
    if choice.text or choice.label:
        raise BadInput(f"{flag}: .txt files have no fields, only .jsonl and .parquet: write --data text:{pattern}")

    def documents() -> Iterator[Document]:
        for file in chosen.files:
            for line in read_lines(flag, file):
                yield cleaned(line) if isinstance(line, str) else line

    hint = f"to take each file for one, write --data text_files:{pattern}"
    note = f"{flag}: each line of {counted(len(chosen.files), 'file')} is a document; {hint}"
    return _source(root, chosen, documents, notes=(note, *left_out))


def open_files(path: str, split: str, data_dir: str | None) -> Source:
    """Each .txt file of one split as a document, in the order of their names; the revision covers names and sizes."""
    flag = f"--data text_files:{path}"
    root, every_file, notes = _find(flag, path, ".txt")
    chosen = pick_split(flag, root, every_file, split)

    def documents() -> Iterator[Document]:
        for file in chosen.files:
            with file.open("rb") as stream:
                data = stream.read(MAX_DOCUMENT_BYTES + 1)
            yield read_document(f"{flag}: {file.relative_to(root)}", data)

    return _source(root, chosen, documents, notes=notes)


def _find(flag: str, pattern: str, *suffixes: str) -> tuple[Path, list[Path], tuple[str, ...]]:
    """As `find_files`, and a note on compressed files beside them; BadInput where all are compressed."""
    packed = found_files(flag, pattern, *(suffix + ending for suffix in suffixes for ending in COMPRESSED))
    try:
        root, files = find_files(flag, pattern, *suffixes)
    except BadInput:
        if not packed:
            raise
        root, files = Path(), packed
    if command := unpacking(files[0]) or (files == packed and "gunzip"):
        raise BadInput(f"{flag}: {files[0].name} is compressed, and texts are read as they lie: {command} {files[0]}")
    beside = f"{flag}: left out {counted(len(packed), 'compressed file')}, the first is {packed and packed[0]}"
    return root, files, (beside,) if packed else ()


def _source(
    root: Path,
    chosen: SplitFiles,
    documents: Callable[[], Iterator[Document]],
    choice: ColumnChoice | None = None,
    class_names: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
) -> Source:
    revision = files_revision(root, chosen.files, classes=class_names)
    return text_source(
        folder_safe_name(f"text-{root.resolve().name}"),
        choice.revised(revision) if choice else revision,
        chosen.split,
        lambda start: islice(documents(), start, None),
        class_names,
        notes,
    )


def _open_json(flag: str, root: Path, chosen: SplitFiles, choice: ColumnChoice) -> Source:
    files = chosen.files
    text = choice.text or "text"
    first = next(_objects(flag, files), (None, {}))[1]
    for role, field in (("text", text), ("label", choice.label)):
        if isinstance(first, dict) and field and field not in first:
            remedy = f"name one of these, as in {choice.remedy(role, 'FIELD')}"
            raise BadInput(f"{flag}: {files[0].name} has no field {field!r}, only {', '.join(first)}: {remedy}")
    labels = NO_LABELS
    if choice.label:
        labels = number_labels(
            flag, _labels(flag, files, choice.label), train=lambda: _labels(flag, chosen.train, str(choice.label))
        )

    def documents() -> Iterator[Document]:
        for number, (where, row) in enumerate(_objects(flag, files)):
            label = labels.of(number)
            if isinstance(row, Document):
                yield row
            elif isinstance(row.get(text), str):
                yield cleaned(without_halves(row[text]), label)
            else:
                yield Document("", label, f"{where} has no text in its field {text!r}: mend it")

    return _source(root, chosen, documents, choice, labels.names, labels.notes)


def _labels(flag: str, files: list[Path], field: str) -> list[Label]:
    """Each line's label; None where it has none."""
    labels: list[Label] = []
    for where, row in _objects(flag, files):
        value = row.get(field) if isinstance(row, dict) else None
        if value is not None and type(value) not in (int, str):
            raise BadInput(f"{where}: field {field!r} holds {value!s:.40}, which is no class: choose another field")
        labels.append(value)
    return labels


def _objects(flag: str, files: list[Path]) -> Iterator[tuple[str, dict[str, Any] | Document]]:
    """Each line's object, or a document with a fault, and the words that name the line."""
    for file in files:
        for number, line in enumerate(read_lines(flag, file), 1):
            where = f"{flag}: line {number} of {file.name}"
            if isinstance(line, str) and not line.strip():
                continue
            try:
                row = json.loads(line) if isinstance(line, str) else line
            except (ValueError, RecursionError) as error:
                row = Document("", None, f"{where} is no JSON ({error}): mend it")
            if not isinstance(row, dict | Document):
                row = Document("", None, f"{where} is no JSON object: mend it")
            yield where, row
