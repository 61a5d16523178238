"""Fixtures of all tests: one tiny teacher and one small cache of digits, made once and copied for each test."""

import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: workers that share cores stall at OpenMP's barriers
os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # else each command that a test starts compiles this project anew

import atexit
import shutil
import tempfile
from pathlib import Path

import caches
import pytest
import torch
from hypothesis import settings

_HOME = tempfile.mkdtemp(prefix="teacher-shards-tests-")  # what commands note on this machine, and mirrors
os.environ["TEACHER_SHARDS_LOCAL_CACHE"] = _HOME
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
torch.set_num_threads(1)
sys.dont_write_bytecode = False  # else each worker compiles all tests and the whole project anew
settings.register_profile("suite", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: three workers on two cores, as a test that waits for a disk, a server or a process needs no core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2


class _Failures:
    """Tells a failure at once: nobody sees the summary of a run that is cut off."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext[-2000:]}")


@pytest.hookimpl(trylast=True)  # the terminal's reporter comes first
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(config.pluginmanager.get_plugin("terminalreporter")))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny network: `--teacher run:FOLDER`."""
    return caches.write_teacher(tmp_path_factory.mktemp("networks") / "teacher")


@pytest.fixture(scope="session")
def pristine(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of two views of 40 digits and the teacher's logits in float32; never written to by a test."""
    cache = tmp_path_factory.mktemp("caches") / "pristine"
    caches.extract("--teacher", f"run:{teacher}", "--out", cache, *caches.SMALL, "--views", "2", "--codec", "float32")
    return cache


@pytest.fixture
def cache(pristine: Path, tmp_path: Path) -> Path:
    """A copy of `pristine` for one test."""
    return caches.copied(pristine, tmp_path / "cache")
