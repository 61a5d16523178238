"""The page and the ledger where a name on the disk is no UTF-8, or a document holds half a surrogate pair."""

import io
import os
import sys
from pathlib import Path

import caches
import pytest
from trained_runs import Parsed, again, write_page

from shards.command.run import run_command

NAME = os.fsdecode(b"b\xffad")
SHOWN = r"b\udcffad"


def test_the_page_and_the_ledger_show_such_names(pristine_full: Path, trained: Path, tmp_path: Path) -> None:
    """A cache's folder, a run's, and a student's name in summary.json."""
    cache, runs = caches.copied(pristine_full, tmp_path / NAME / "cache"), caches.copied(trained, tmp_path / "runs")
    again(runs / "first", NAME, lambda summary: summary.update(student="x\ud800y"))
    parsed = Parsed(write_page(cache, "--runs", runs, "--num", "2"))
    assert r"x\ud800y" in parsed.text and parsed.text.count(SHOWN) > 3 and "2 runs in" in parsed.text
    assert len([path for path in parsed.of("path") if "data-run" in path]) == 6  # three curves of each run
    ledger = caches.command("shards", "ledger", cache, "--runs", runs).succeeds().out
    assert SHOWN in ledger and ledger.isascii()


def test_what_a_command_prints_of_such_a_name_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "utf-8", errors="strict"))
    with pytest.raises(SystemExit) as end:
        run_command(lambda arguments: print(NAME), "shards", [])
    assert end.value.code == 0 and printed.getvalue().decode() == f"{SHOWN}\n"
