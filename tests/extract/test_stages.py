"""Stages: shards are written in order behind the batches; where the time went adds up."""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from caches import SMALL, extract

from extract.stages import STAGES, Behind, Stages
from shards.errors import BadInput


def test_shards_are_written_in_order_each_with_its_batches() -> None:
    written: list[tuple[int, list[int]]] = []

    def batch(number: int) -> int:
        time.sleep(0.01 * (3 - number % 3))  # later ones are done earlier
        return number

    def write(shard: int, results: Iterator[int]) -> None:
        written.append((shard, list(results)))

    with Behind(3) as behind:
        for shard in range(5):
            behind.submit([partial(batch, 3 * shard + each) for each in range(3)], partial(write, shard))
            assert len(written) >= shard, "two shards are in work at most"
    assert written == [(shard, [3 * shard, 3 * shard + 1, 3 * shard + 2]) for shard in range(5)]


def test_batches_of_the_next_shard_compute_while_one_is_unfinished() -> None:
    """Two threads meet although each shard has one batch: a pipeline that ends a shard first would never let them."""
    meeting, met = threading.Barrier(2, timeout=60), list[int]()
    with Behind(2) as behind:
        for _ in range(2):
            behind.submit([meeting.wait], met.extend)
    assert sorted(met) == [0, 1]


@pytest.mark.parametrize(("own", "kept"), [(BadInput("of the next views"), [0]), (KeyboardInterrupt(), [])])
def test_what_was_begun_is_written_where_the_views_fail_and_dropped_where_one_is_interrupted(
    own: BaseException, kept: list[int]
) -> None:
    written, go = list[int](), threading.Event()

    def write(shard: int, results: Iterator[bool]) -> None:
        assert all(results)
        written.append(shard)

    threading.Timer(0.2, go.set).start()
    with pytest.raises(type(own)), Behind(1) as behind:
        behind.submit([partial(go.wait, 60)] * 2, partial(write, 0))  # when the block ends the second has not begun
        raise own
    assert written == kept


def test_a_mistake_of_a_shard_ends_the_run_and_nothing_after_it_is_written() -> None:
    written: list[int] = []

    def write(shard: int, results: Iterator[int]) -> None:
        if shard == 1:
            raise BadInput("shard 1")
        written.append(shard)
        list(results)

    with pytest.raises(BadInput, match="shard 1"), Behind(1) as behind:
        for shard in range(4):
            behind.submit([lambda: time.sleep(0.05)], partial(write, shard))
    assert 0 in written and 3 not in written


@pytest.mark.parametrize("slowest", STAGES)
def test_the_stage_that_is_busy_for_the_longest_is_said_to_hold_the_run(slowest: str) -> None:
    stages, start = Stages(2), time.perf_counter()

    def work(_: int) -> None:
        for name in STAGES:
            with stages.stage(name):
                time.sleep(0.2 if name == slowest else 0.01)

    with ThreadPoolExecutor(2) as pool:  # as many as compute batches
        list(pool.map(work, range(2) if slowest in stages.computing else range(1)))
    seconds = stages.seconds(time.perf_counter() - start)
    assert seconds.held_by().startswith(f"{slowest} (")
    assert 0.2 <= getattr(seconds, slowest) <= seconds.whole
    waited = seconds.whole - seconds.copy - seconds.teacher - seconds.encode
    assert seconds.wait == pytest.approx(max(0, waited))


def test_the_command_says_where_its_time_went(tmp_path: Path, teacher: Path) -> None:
    done = extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    line = re.search(r"^extract: seconds: (\{.*\})$", done.out, re.MULTILINE)
    assert line
    seconds = json.loads(line[1])
    assert seconds.keys() == {*STAGES, "wait", "whole"}
    computing = sum(seconds[name] for name in ("copy", "teacher", "encode", "wait"))
    assert computing == pytest.approx(seconds["whole"], abs=0.005)  # each is rounded to a thousandth
    assert all(0 <= seconds[name] <= seconds["whole"] + 0.001 for name in STAGES)
    held = re.search(r", held by (\w+) \(\d+%\): ", done.out)
    assert held and seconds[held[1]] == max(seconds[name] for name in STAGES)
    again = extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    assert "held by" not in again.out  # nothing was to be done
