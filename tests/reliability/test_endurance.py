"""Some minutes of the endurance run: `python -m tests.reliability endurance` goes on for hours."""

from pathlib import Path

import pytest
from endurance import endure
from pace import Pace
from small_disk import NoDisk


@pytest.mark.slow
def test_killed_and_full_a_loop_ends_with_the_bytes_of_undisturbed_commands(tmp_path: Path) -> None:
    """In a folder and in a bucket; what lives throughout holds no more of the system in the end."""
    pace = Pace(kills=(0.2, 2), rests=(2, 6), fills=(1, 6), full=(0.3, 2))
    try:
        endured = endure(tmp_path, 0, 1, pace, ["crops"], cycles=1)
    except NoDisk as error:
        pytest.skip(f"no file system may be mounted here: {error}")
    assert endured.faults == []
    assert endured.cycles.total() == 2 and endured.counts["fills"] > 0
    assert endured.counts["SIGKILL"] + endured.counts["SIGTERM"] > 5
