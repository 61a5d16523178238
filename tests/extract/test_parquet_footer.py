"""A parquet footer that is read without pyarrow says what pyarrow says, and a spoilt one is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.sources.parquet_footer import null_counts, read_footer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Twenty columns of three types in four row groups, a third of whose rows are null; one without statistics."""
    draw = np.random.default_rng(0)
    rows = {}
    for number in range(20):
        values = draw.integers(0, 100, 90).astype(("int32", "float64", "str")[number % 3]).tolist()
        rows[f"column {number}"] = [None if draw.random() < 1 / 3 else value for value in values]
    path = tmp_path / "file.parquet"
    known = [name for name in rows if name != "column 7"]
    pq.write_table(pa.table(rows), path, row_group_size=25, write_statistics=known)
    return path


@pytest.mark.slow
def test_nulls_are_counted_as_pyarrow_counts_them(file: Path) -> None:
    footer, metadata = read_footer(file), pq.read_metadata(file)
    for number in range(20):
        chunks = [metadata.row_group(group).column(number) for group in range(4)]
        counts = [0 if number == 7 else chunk.statistics.null_count for chunk in chunks]
        assert null_counts(footer, number, chunks[0].physical_type) == counts
        assert any(counts) == (number != 7)


@pytest.mark.parametrize("step", [149, pytest.param(7, marks=pytest.mark.slow)])
def test_a_footer_that_is_cut_off_is_refused(step: int, file: Path) -> None:
    footer = read_footer(file)
    for end in range(0, len(footer) // 2, step):
        with pytest.raises(ValueError, match="its footer"):
            null_counts(footer[:end], 0, "INT32")


def test_a_footer_that_makes_no_sense_is_refused(file: Path) -> None:
    footer = read_footer(file)
    with pytest.raises(ValueError, match="of another type"):
        null_counts(footer, 0, "BYTE_ARRAY")
    with pytest.raises(ValueError, match="does not say what its columns are"):
        null_counts(footer, 20, "INT32")
    with pytest.raises(ValueError, match="more than 64 bits"):
        null_counts(b"\x15" + b"\xff" * 100, 0, "INT32")
    with pytest.raises(ValueError, match="too deep"):
        null_counts(b"\x1c" * 100, 0, "INT32")
    with pytest.raises(ValueError, match="unknown kind 15"):
        null_counts(b"\x1f", 0, "INT32")
