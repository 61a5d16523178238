"""The interrupted extractions that tests look at, made by one process a fixture: imports cost more than they."""

from pathlib import Path

import pytest
from killing import Interrupted, Job, fresh, growing, in_another_process, kept, limited_to, of_pairs, of_texts
from s3_server import s3, s3_ports

from tests.extract.test_data2vec2_writer import write_checkpoint

__all__ = ["s3", "s3_ports"]


@pytest.fixture(scope="session")
def interrupted(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Those of the default tests."""
    root = tmp_path_factory.mktemp("interrupted")
    return run({"step": fresh(root / "step", teacher, "step", 0), "limit": limited_to(root / "limit", teacher, 8_000)})


@pytest.fixture(scope="session")
def interrupted_too(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Those of the slow ones."""
    root = tmp_path_factory.mktemp("interrupted-too")
    jobs = {
        "time": fresh(root / "time", teacher, "time", 0),
        "kept": kept(root / "kept", write_checkpoint(root / "tiny.pt"), "step", 0),
        "texts": of_texts(root / "texts", 0),
        "pairs": of_pairs(root / "pairs", teacher, 0),
        "growing": growing(root / "growing", teacher, "step", 0),
    }
    return run(jobs)


def run(jobs: dict[str, Job]) -> Interrupted:
    return dict(zip(jobs, zip(jobs.values(), in_another_process([*jobs.values()]), strict=True), strict=True))
