"""One teacher, one student of another width, one cache of digits with target sets, made once by the real commands."""

from pathlib import Path

import pytest
from digits_bench import Bench, write_student

from extract.__main__ import main as extract


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


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return Bench(made.teacher, made.student, made.cache, tmp_path)
