"""One teacher, one student of another width, one cache of digits with target sets, made once by the real commands."""

from dataclasses import replace
from pathlib import Path

import pytest
from digits_bench import Bench, write_dense_student, write_student
from pair_bench import pairs, run

from extract.__main__ import main as extract
from tests.extract.test_data2vec2_writer import write_checkpoint

__all__ = ["pairs", "run"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("evaluate")
    write_student(root / "teacher", width=12, epochs=4)
    write_student(root / "student", width=8, epochs=2)
    flags = ["--teacher", f"run:{root / 'teacher'}", "--out", str(root / "cache"), "--data", "digits"]
    extract([*flags, "--target", "logits", "--codec", "float32", "--limit", "300"])
    validation = [*flags, "--split", "validation", "--image_format", "png"]
    extract([*validation, "--target", "logits,pooled", "--codec", "float32"])
    extract([*validation, "--target", "logits", "--codec", "topk:3"])
    return Bench(root / "teacher", root / "student", root / "cache", root)


@pytest.fixture(scope="session")
def made_dense(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A data2vec 2.0 teacher, a student of its first two blocks, and what the teacher said of digits, in int8."""
    root = tmp_path_factory.mktemp("dense")
    checkpoint = write_checkpoint(root / "teacher.pt", depth=3, average_top_k_layers=3)
    write_dense_student(root / "student", checkpoint, depth=2)
    write_dense_student(root / "teacher", checkpoint, depth=3)
    flags = ["--teacher", "data2vec2", "--weights", str(checkpoint), "--out", str(root / "cache"), "--data", "digits"]
    extract([*flags, "--codec", "int8", "--limit", "300"])
    validation = [*flags, "--split", "validation", "--image_format", "png", "--limit", "120"]
    extract([*validation, "--target", "layer_mean,cls", "--codec", "int8,float32"])
    return Bench(root / "teacher", root / "student", root / "cache", root)


@pytest.fixture
def dense(made_dense: Bench, tmp_path: Path) -> Bench:
    return replace(made_dense, scratch=tmp_path)


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return replace(made, scratch=tmp_path)
