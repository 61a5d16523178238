"""`openwebtext`: the hub's corpus of 8 million web pages, of which slices 0 to 4 are `train` and slice 5 `validation`.

Gokaslan & Cohen 2019, "OpenWebText Corpus". The hub has no splits but 21 slices, each a tar of .xz archives of .txt
files; or parquet files, which are cut in the same proportions.
"""

import lzma
import re
import tarfile
from collections.abc import Iterable, Iterator
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath

from extract.sources.base import Document, Source
from extract.sources.documents import MAX_DOCUMENT_BYTES, read_document, text_source
from extract.sources.hub import download
from extract.sources.labels import NO_LABELS
from extract.sources.left_out import shown
from extract.sources.naming import content_revision
from extract.sources.row_groups import open_file
from extract.sources.table_texts import row_documents
from extract.sources.tar_members import members, read
from shards.errors import BadInput
from shards.splits import choose_split

NUM_SLICES = 21
SLICES = {"train": range(5), "validation": range(5, 6)}
_REPOSITORY = "Skylion007/openwebtext"
_ARCHIVE = re.compile(r"urlsf_subset(\d+)(?:-(\d+)_data)?\.(?:tar|xz)")
_TABLE = re.compile(r"train-(\d+)-of-(\d+)\.parquet")


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The documents of one split: of the slices' tars, of the .xz archives that lie in these, or of parquet files.

    The revision covers the names and sizes of the split's files. Raises SourceUnavailable where the hub is out of
    reach, BadInput where a local copy has no file of the split.
    """
    flag = "--data openwebtext" if data_dir is None else f"--data_dir {data_dir}"
    chosen = choose_split(flag, split, SLICES)
    slices = SLICES[chosen]
    folder = (
        Path(data_dir).expanduser()
        if data_dir is not None
        else download(
            flag,
            _REPOSITORY,
            lambda names: list((_archives(names, slices) or _tables(names, slices)).values()),
            _remedy(slices),
        )
    )
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*") if file.is_file())
    archives, tables = _archives(names, slices), _tables(names, slices)
    if archives:
        files = [folder / name for name in archives.values()]
        missing = [f"slice {number}" for number in slices if number not in {each for each, _ in archives}]
        documents = partial(_from_archives, flag, files)
    elif tables:
        files, missing = [folder / name for name in tables.values()], _missing_tables(tables, slices)
        pieces = [(open_file(folder / name), place) for place, name in tables.items()]
        rows = [(table, *_rows(*place, table[1].num_rows, slices)) for table, place in pieces]
        documents = partial(row_documents, flag, rows, "text", NO_LABELS)
    else:
        raise BadInput(f"{flag}: {folder} holds no file of split {chosen}: {_remedy(slices)}")
    note = f"{flag}: split {chosen} lacks {shown(missing)} in {folder}"
    parts = [part for file in files for part in (file.name, file.stat().st_size)]
    revision, notes = content_revision(parts), (note,) if missing else ()
    return text_source("openwebtext", revision, chosen, documents, notes=notes)


def _archives(names: Iterable[str], slices: range) -> dict[tuple[int, int], str]:
    """The archives of `slices` by (slice, part), in that order; part 0 is a whole slice, its parts are left."""
    matches = ((_ARCHIVE.fullmatch(PurePosixPath(name).name), name) for name in names)
    every = {(int(match[1]), int(match[2] or 0)): name for match, name in matches if match}
    return {
        (number, part): every[number, part]
        for number, part in sorted(every)
        if number in slices and (part == 0 or (number, 0) not in every)
    }


def _tables(names: Iterable[str], slices: range) -> dict[tuple[int, int], str]:
    """The parquet files that hold rows of `slices`, by (number, how many there are)."""
    matches = ((_TABLE.fullmatch(PurePosixPath(name).name), name) for name in names)
    every = {(int(match[1]), int(match[2])): name for match, name in matches if match}
    return {place: every[place] for place in sorted(every) if _holds(*place, slices)}


def _holds(number: int, count: int, slices: range) -> bool:
    return number * NUM_SLICES < slices.stop * count and (number + 1) * NUM_SLICES > slices.start * count


def _missing_tables(tables: dict[tuple[int, int], str], slices: range) -> list[str]:
    count = max(count for _, count in tables)
    return [
        f"file {number} of {count}"
        for number in range(count)
        if _holds(number, count, slices) and (number, count) not in tables
    ]


def _rows(number: int, count: int, num_rows: int, slices: range) -> tuple[int, int]:
    """The rows of a file that belong to `slices`: slice s is the s-th of NUM_SLICES equal parts of all files."""
    first, stop = (
        min(max(0, (edge * count - number * NUM_SLICES) * num_rows // NUM_SLICES), num_rows)
        for edge in (slices.start, slices.stop)
    )
    return first, stop


def _from_archives(flag: str, files: list[Path], start: int) -> Iterator[Document]:
    return islice(_archive_documents(flag, files), start, None)


def _archive_documents(flag: str, files: list[Path]) -> Iterator[Document]:
    for file in files:
        if file.suffix == ".xz":
            yield from _documents(flag, file.name, file)
            continue
        for member in members(flag, file):
            if member.name.endswith(".xz"):
                packed = BytesIO(read(file, member.offset, member.size))
                yield from _documents(flag, f"{member.name} of {file.name}", packed)


def _documents(flag: str, archive: str, packed: Path | BytesIO) -> Iterator[Document]:
    """The .txt files of an .xz archive, in stored order; BadInput where it is cut or damaged."""
    try:
        with lzma.open(packed) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
            for info in tar:
                if info.isreg() and info.name.endswith(".txt"):
                    data = tar.extractfile(info)
                    assert data is not None
                    yield read_document(f"{flag}: {info.name} of {archive}", data.read(MAX_DOCUMENT_BYTES + 1))
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise BadInput(f"{flag}: {archive} is damaged ({error}): fetch it again") from error


def _remedy(slices: range) -> str:
    archives = f"subsets/urlsf_subset{slices.start:02d}.tar"
    if len(slices) > 1:
        archives += f" to urlsf_subset{slices.stop - 1:02d}.tar"
    return f"download {archives} of https://huggingface.co/datasets/{_REPOSITORY} and give their folder as --data_dir"
