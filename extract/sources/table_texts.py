"""Table texts: the rows of a text column as documents, read as bytes, since Arrow does not check UTF-8."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from extract.sources.base import Document
from extract.sources.documents import read_document
from extract.sources.labels import Labels
from extract.sources.row_groups import ParquetFile, stream_column


def row_documents(
    flag: str, pieces: Iterable[tuple[ParquetFile, int, int]], column: str, labels: Labels, start: int
) -> Iterator[Document]:
    """The documents of rows `first` to `stop` of each piece (file, first, stop), from document `start` on."""
    number = 0
    for file, first, stop in pieces:
        skipped = min(max(0, start - number), stop - first)
        row, number = first + skipped, number + skipped
        where = f"{flag}: {file[0].name}: row"
        arrays = stream_column(file, column, row) if row < stop else ()
        for array in arrays:
            yield from array_documents(where, array[: stop - row], row, number, labels)
            number += min(len(array), stop - row)
            row += len(array)
            if row >= stop:
                break


def array_documents(
    where: str, texts: pa.Array | pa.ChunkedArray, row: int, number: int, labels: Labels
) -> Iterator[Document]:
    """Each text as a document; null is an empty one. `where` and the row name it, `number` has its label."""
    if pa.types.is_dictionary(texts.type):
        texts = texts.cast(texts.type.value_type)
    for offset, data in enumerate(texts.cast(pa.large_binary()).to_pylist()):
        label = labels.of(number + offset)
        yield Document("", label) if data is None else read_document(f"{where} {row + offset}", data, label)
