"""A parquet file's footer, read without pyarrow where pyarrow would end the process.

Asked for a column chunk of a footer that makes no sense, pyarrow lets a C++ exception out, and compares what it never
set. The footer is Thrift's compact protocol (apache/thrift, doc/specs/thrift-compact-protocol.md) of the structures of
apache/parquet-format, src/main/thrift/parquet.thrift.
"""

import struct
from pathlib import Path
from typing import Any

_ROW_GROUPS, _COLUMNS, _META_DATA, _TYPE, _STATISTICS, _NULL_COUNT = 4, 1, 3, 1, 12, 3
"""Fields of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData and Statistics."""
_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
_MOST_DEEP = 32


def read_footer(file: Path) -> bytes:
    """A parquet file's metadata as stored: schema, and each column chunk's offset, size and statistics."""
    with file.open("rb") as stream:
        stream.seek(-8, 2)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, 2)
        return stream.read(length)


def null_counts(footer: bytes, column: int, kind: str) -> list[int]:
    """How many rows of each row group have nothing in the leaf `column`; 0 where the footer does not say.

    Raises ValueError where the footer makes no sense, or a row group's column is not of the type `kind`.
    """
    try:
        columns = [group[_COLUMNS][column][_META_DATA] for group in _Compact(footer).fields()[_ROW_GROUPS]]
        kinds = {each[_TYPE] for each in columns}
        counts = [each.get(_STATISTICS, {}).get(_NULL_COUNT, 0) for each in columns]
    except (LookupError, TypeError, AttributeError, struct.error):
        raise ValueError("its footer does not say what its columns are") from None
    if not kinds <= {_TYPES.index(kind)}:
        raise ValueError(f"its footer says that a column of type {kind} is of another type in a row group")
    if not all(type(count) is int for count in counts):
        raise ValueError("its footer counts what is no number")
    return counts


class _Compact:
    """Values of Thrift's compact protocol, from the first byte of `data` on."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def fields(self, depth: int = 0) -> dict[int, Any]:
        """A structure's values by their number."""
        values, number = {}, 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._integer()
            kind &= 15
            values[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth + 1)
        return values

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _MOST_DEEP:
            raise ValueError("its footer is nested too deep")
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in _INTEGERS:
            return self._integer()
        if kind == _DOUBLE:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind == _BINARY:
            return self._bytes(self._number())
        if kind in _LISTS:
            head = self._byte()
            count = self._number() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == _MAP:
            count = self._number()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1)) for _ in range(count)]
        if kind == _STRUCT:
            return self.fields(depth)
        raise ValueError(f"its footer holds a value of the unknown kind {kind}")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise IndexError(length)
        self._at += length
        return self._data[self._at - length : self._at]

    def _number(self) -> int:
        """Seven bits a byte, the lowest first."""
        number, shift = 0, 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
            if shift >= 64:
                raise ValueError("its footer holds a number of more than 64 bits")

    def _integer(self) -> int:
        """A signed number, whose lowest bit is its sign."""
        number = self._number()
        return number >> 1 ^ -(number & 1)
