"""Sources of sentences: GLUE in the hub's layout, and tables of one's own."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.sources import open_source
from extract.sources.glue import TASKS
from shards.errors import BadInput
from tests.evaluate.glue_files import write_glue, write_task

PAIRS = 'one\ttwo\tscore\nA "cat\ta dog\t3.5\nB\tC\t0\n'


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"), 24, 12)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_gives_its_columns_and_labels_in_the_order_of_the_rows(glue: Path, task: str) -> None:
    split = "validation_mismatched" if task == "mnli" else "validation"
    source = open_source(f"glue:{task}", split, str(glue))
    rows = pq.read_table(glue / task / f"{split}-00000-of-00001.parquet").to_pylist()
    samples = [source.read(index) for index in range(len(source.keys))]
    assert [sample.texts for sample in samples] == [tuple(row[name] for name in TASKS[task].texts) for row in rows]
    assert [sample.label for sample in samples] == [row["label"] for row in rows]
    assert source.class_names == TASKS[task].class_names and source.has == {"texts"}
    assert len(set(source.keys)) == len(rows) == 12 and source.split == split


def test_the_contract_of_a_source(glue: Path, tmp_path: Path) -> None:
    source = open_source("glue:mnli", "train", str(glue))
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", key) for key in source.keys)
    order = np.random.default_rng(0).integers(0, len(source.keys), 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, order)) == [source.read(index) for index in order]
    part = open_source("glue:mnli", "train", str(glue), limit=3)
    assert (part.keys, part.revision) == (source.keys[:3], source.revision)
    shutil.copytree(glue, tmp_path / "moved")
    assert open_source("glue:mnli", "train", str(tmp_path / "moved")).revision == source.revision
    with pytest.raises(IndexError):
        source.read(len(source.keys))


def test_what_the_hub_gives_is_what_a_copy_of_it_gives(
    glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "glue"
    shutil.copytree(glue, repository)
    files = [f"  - split: {split}\n    path: rte/{split}-*\n" for split in ("train", "validation", "test")]
    card = f"---\nconfigs:\n- config_name: rte\n  data_files:\n{''.join(files)}---\n"
    (repository / "README.md").write_text(card)  # as the hub's card says which files are which split
    monkeypatch.setattr("extract.sources.glue.REPOSITORY", str(repository))
    of_hub, of_copy = open_source("glue:rte", "train"), open_source("glue:rte", "train", str(glue))
    assert [of_hub.read(row) for row in range(24)] == [of_copy.read(row) for row in range(24)]
    with pytest.raises(BadInput, match="--data glue:rte: no split 'validation_matched', only test, train"):
        open_source("glue:rte", "validation_matched")
    with pytest.raises(BadInput, match="--data glue:rte: split test: 8 of 8 rows have no label"):
        open_source("glue:rte", "test")


def test_a_folder_a_split_holds_its_files_too(glue: Path, tmp_path: Path) -> None:
    file = tmp_path / "rte" / "validation" / "0000.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes((glue / "rte" / "validation-00000-of-00001.parquet").read_bytes())
    copied, source = (open_source("glue:rte", "validation", str(root)) for root in (tmp_path, glue))
    assert [copied.read(row) for row in range(12)] == [source.read(row) for row in range(12)]


def test_other_rows_have_another_revision(glue: Path, tmp_path: Path) -> None:
    write_task(tmp_path, "rte", "validation", 12, seed=1)
    same, train = open_source("glue:rte", "validation", str(tmp_path)), open_source("glue:rte", "train", str(glue))
    assert same.revision == open_source("glue:rte", "validation", str(glue)).revision != train.revision
    write_task(tmp_path, "rte", "validation", 12, seed=2)
    assert open_source("glue:rte", "validation", str(tmp_path)).revision != same.revision


def test_a_glue_folder_that_lacks_something_is_refused_in_one_line(glue: Path, tmp_path: Path) -> None:
    def refuses(task: str, split: str, words: str) -> None:
        with pytest.raises(BadInput, match=words) as caught:
            open_source(f"glue:{task}", split, str(tmp_path))
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)

    refuses("cola", "train", "no parquet file in .*cola; fetch it with hf download nyu-mll/glue")
    write_task(tmp_path, "cola", "train", 4)
    refuses("cola", "validation", "no split validation, only train; fetch cola/validation")
    file = write_task(tmp_path, "mrpc", "train", 4)
    table = pq.read_table(file)
    pq.write_table(table.rename_columns(["sentence1", "text", "label", "idx"]), file)
    refuses("mrpc", "train", "split train has no column sentence2, only sentence1, text, label, idx")
    pq.write_table(table.set_column(0, "sentence1", pa.array([1, 2, 3, 4])), file)
    refuses("mrpc", "train", "column sentence1 of split train holds int64, expected text")
    pq.write_table(table.set_column(0, "sentence1", pa.array(["a", "b", None, "d"])), file)
    refuses("mrpc", "train", "column sentence1 of split train is empty in row 2")
    write_task(tmp_path, "wnli", "test", 5, label=-1)
    refuses("wnli", "test", r"split test: 5 of 5 rows have no label \(-1\).*give --split validation")
    (tmp_path / "rte").mkdir()
    (tmp_path / "rte" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    refuses("rte", "train", "cannot be read")
    with pytest.raises(BadInput, match="unknown GLUE task 'sst-2': did you mean sst2"):
        open_source("glue:sst-2", "train", str(glue))


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_a_table_of_pairs_with_scores(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs.{suffix}"
    rows = [{"one": 'A "cat', "two": "a dog", "score": 3.5}, {"one": "B", "two": "C", "score": 0.0}]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        csv = 'one,two,score\n"A ""cat",a dog,3.5\nB,C,0\n'
        jsonl = '{"one": "A \\"cat", "two": "a dog", "score": 3.5}\n{"one": "B", "two": "C", "score": 0.0}\n'
        file.write_text({"tsv": PAIRS, "csv": csv, "jsonl": jsonl}[suffix])
    source = open_source(f"sentences:{file}", "validation")
    assert [(source.read(row).texts, source.read(row).label) for row in range(2)] == [
        (('A "cat', "a dog"), 3.5),
        (("B", "C"), 0.0),
    ]
    assert source.class_names is None and source.name == "sentences-pairs"


def test_columns_are_chosen_and_classes_named(tmp_path: Path) -> None:
    table = {"id": ["x", "y", "z"], "body": ["one", "two", "three"], "sort": ["good", "bad", "good"]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    source = open_source(f"sentences:{tmp_path / 't.parquet'}:texts=body,label=sort", "train")
    assert source.class_names == ("bad", "good") and [source.read(row).label for row in range(3)] == [1, 0, 1]
    assert source.read(1).texts == ("two",)
    for spec, words in {
        "": "found 3 columns of text and 0 of labels in id, body, sort; name them",
        ":text=body": "text= is no column's role",
        ":texts=body,label=size": "no column size, only id, body, sort",
    }.items():
        with pytest.raises(BadInput, match=words):
            open_source(f"sentences:{tmp_path / 't.parquet'}{spec}", "train")
