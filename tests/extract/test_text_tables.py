"""Tables of texts: a column of parquet, chosen columns with labels, and rows that cannot be read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_sources_text import documents, texts

from extract.sources import open_source
from extract.sources.documents import MAX_DOCUMENT_BYTES
from shards.errors import BadInput


def write_parquet(path: Path, rows: int = 700, first: int = 0, **columns: pa.Array) -> None:
    """Texts `text 0` on, in groups of 100 rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = columns or {"text": pa.array([f"text {first + row}" for row in range(rows)])}
    pq.write_table(pa.table(columns), path, row_group_size=100)


@pytest.mark.parametrize("scheme", ["parquet", "text", "hf"])
def test_a_text_column_of_a_table(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets_cache"))
    write_parquet(tmp_path / "corpus" / "train-0.parquet")
    write_parquet(tmp_path / "corpus" / "train-1.parquet", 300, 700)
    source = open_source(f"{scheme}:{tmp_path / 'corpus'}", "train")
    assert texts(source) == [f"text {row}" for row in range(1000)]
    for start in (0, 99, 100, 256, 699, 700, 701, 999, 1000, 2000):
        assert documents(source, start) == documents(source)[start:]


@pytest.mark.parametrize("scheme", ["parquet", "hf"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_chosen_columns_of_texts_and_labels(
    scheme: str, kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets_cache"))
    body = pa.array(["a\n\nb", None, "", "\ufeffd"], kind)
    write_parquet(tmp_path / "corpus" / "train.parquet", body=body, mood=pa.array(["up", "down", "up", None]))
    data = f"{scheme}:{tmp_path / 'corpus'}"
    source = open_source(f"{data}:text=body,label=mood", "train")
    assert [document[:2] for document in documents(source)] == [("a\nb", 1), ("", 0), ("", 1), ("d", None)]
    assert source.class_names == ("down", "up")
    for spec, expected in (
        ("", f"none called text holds text, only body, mood: name one, as in --data {data}:image=COLUMN"),
        (":text=bodi", "no column 'bodi' for text=, only body, mood"),
        (":text=body,image=mood", "samples are images or texts"),
        (":text=", "text= names no column"),
    ):
        with pytest.raises(BadInput) as refused:
            open_source(f"{data}{spec}", "train")
        assert expected in str(refused.value)


def test_rows_of_a_table_that_are_not_utf8_or_too_long_are_named(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"b\xffd", b"x" * (MAX_DOCUMENT_BYTES + 1)])
    text = pa.StringArray.from_buffers(3, *raw.buffers()[1:])
    write_parquet(tmp_path / "a.parquet", text=text)
    faults = [document.fault for document in documents(open_source(f"parquet:{tmp_path}", "train"))]
    assert faults[0] is None
    assert "a.parquet: row 1: byte 1 (0xff) is not UTF-8" in str(faults[1]) and "row 2 is longer than" in str(faults[2])
