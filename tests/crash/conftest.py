"""The interrupted extractions that the default tests look at, all made by one process: imports cost more than they."""

from pathlib import Path

import pytest
from killing import Interrupted, fresh, growing, in_another_process, kept, limited_to, of_pairs, of_texts
from s3_server import s3, s3_ports

from tests.extract.test_data2vec2_writer import write_checkpoint

__all__ = ["s3", "s3_ports"]


@pytest.fixture(scope="session")
def interrupted(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    root = tmp_path_factory.mktemp("interrupted")
    jobs = {
        "time": fresh(root / "time", teacher, "time", 0),
        "step": fresh(root / "step", teacher, "step", 0),
        "kept": kept(root / "kept", write_checkpoint(root / "tiny.pt"), "step", 0),
        "texts": of_texts(root / "texts", 0),
        "pairs": of_pairs(root / "pairs", teacher, 0),
        "growing": growing(root / "growing", teacher, "step", 0),
        "limit": limited_to(root / "limit", teacher, 8_000),
    }
    return dict(zip(jobs, zip(jobs.values(), in_another_process([*jobs.values()]), strict=True), strict=True))
