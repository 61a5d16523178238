"""Spawning: commands in processes that begin with all imports done, so that kills meet them at their work.

One process imports the project once and forks for each command, which runs as `python -m NAME` does: a session of its
own, its own words, environment and files for what it prints. What it starts itself are processes of their own kind.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTS = (
    *("extract.__main__", "extract.bill.happened", "extract.finishing", "extract.phases", "extract.promises"),
    *("extract.modalities.image", "extract.modalities.text", "extract.networks.convnet", "extract.teachers.run"),
    *("extract.teachers.hugging_face", "extract.launch.local", "extract.launch.shared", "extract.sharing"),
    *("distill.run", "distill.arrivals", "distill.bill.happened", "distill.holding", "distill.loggers.csv"),
    *("evaluate.__main__", "evaluate.report", "evaluate.tasks.accuracy", "evaluate.tasks.fidelity"),
    *("shards.__main__", "shards.transfer", "shards.verify.files", "shards.stores.bucket", "simplejpeg"),
    *("sklearn.datasets", "transformers.models.bert.modeling_bert", "torchvision.models"),
)
MARK = "TEACHER_SHARDS_ENDURANCE"
"""In the environment of the process that forks and of all that come of it: its value tells whose they are."""


class Spawner:
    """The process that forks; one thread reads what it says of the others' ends."""

    def __init__(self, mark: str, environment: Mapping[str, str]) -> None:
        self.mark = mark
        place = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
        paths = os.pathsep.join([*place, os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment, "PYTHONPATH": paths, MARK: mark},
        )
        self._begun: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._number, self._changed = 0, threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            number, kind, value = json.loads(line)
            with self._changed:
                (self._begun if kind == "begun" else self._ended)[number] = value
                self._changed.notify_all()

    def start(self, words: Sequence[str], environment: Mapping[str, str], output: Path) -> "Spawned":
        """A command `python -m WORDS`, whose output and errors go to `output` with .out and .err."""
        assert self.process.stdin is not None
        with self._changed:
            self._number += 1
            number = self._number
            asked = {"number": number, "words": [*words], "environment": {**environment}, "output": str(output)}
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")
            self.process.stdin.flush()
            assert self._changed.wait_for(lambda: number in self._begun, 120), "nothing is forked any more"
            return Spawned(self, number, self._begun[number], output)

    def end_of(self, number: int, timeout_s: float) -> int | None:
        """The exit status of a command, negative for a signal; None where it lives still."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._ended, timeout_s)
            return self._ended.get(number)

    def close(self) -> None:
        """The process and all that it forked are gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def living(self) -> dict[int, int]:
        """All processes that came of this one, by number, with their session's: a command's is its own number."""
        return {pid: session for pid, session in processes(self.mark) if pid != self.process.pid}


class Spawned:
    """One command."""

    def __init__(self, spawner: Spawner, number: int, pid: int, output: Path) -> None:
        self._spawner, self._number, self.pid, self._output = spawner, number, pid, output

    def status(self, timeout_s: float = 0) -> int | None:
        """Its exit status, negative for a signal; None where it lives still."""
        return self._spawner.end_of(self._number, timeout_s)

    def said(self, kind: str = "err") -> str:
        """What it printed, `out` or `err`."""
        return self._output.with_suffix(f".{kind}").read_text(errors="replace")


def processes(mark: str) -> Iterator[tuple[int, int]]:
    """(number, session) of all processes of this mark that have not ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if f"{MARK}={mark}".encode() not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                state, _, _, session = (entry / "stat").read_text().rpartition(") ")[2].split()[:4]
            except (OSError, ValueError):  # it ended in this moment
                continue
            if state != "Z":
                yield int(entry.name), int(session)


def _serve() -> dict[str, Any] | None:
    """Forks for each line that is asked; the child returns with its line, the parent with None when nobody asks."""
    running: dict[int, int] = {}
    try:
        return _forks(running)
    except BrokenPipeError:  # who asked was killed
        return None
    finally:
        for child in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)


def _forks(running: dict[int, int]) -> dict[str, Any] | None:
    waiting = b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            if not (new := os.read(0, 1 << 16)):
                return None
            *lines, waiting = (waiting + new).split(b"\n")
            for line in lines:
                asked: dict[str, Any] = json.loads(line)
                if (child := os.fork()) == 0:
                    running.clear()
                    return asked
                running[child] = asked["number"]
                print(json.dumps([asked["number"], "begun", child]), flush=True)
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            print(json.dumps([running.pop(ended[0]), "ended", os.waitstatus_to_exitcode(ended[1])]), flush=True)


def _become(words: list[str], environment: dict[str, str], output: str) -> None:
    """This process is the command `python -m WORDS`."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, ending in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    os.closerange(3, 64)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.environ.update(environment)
    sys.argv = words
    sys.modules.pop(f"{words[0]}.__main__", None)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for module in IMPORTS:
        importlib.import_module(module)
    if (asked := _serve()) is not None:
        _become(asked["words"], asked["environment"], asked["output"])
