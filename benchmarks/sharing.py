"""Sharing: four processes extract into one folder and into one bucket, with a teacher that sleeps instead of computing.

Each is `python -m extract --launch shared` with a mirror of its own, as on a machine of its own; the bucket is moto's
server. Of `steady` the time counts from the moment at which all four have begun, until the last of them has nothing
left to do. Of `kill` one that works is killed again and again, each time that as many more shards are committed, and
is started again at once. Of both every byte must be that of a single process, and nothing else may lie there.
Limit: the time that the teacher sleeps, over four.
"""

import argparse
import http.client
import itertools
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, Report, Spread, alternate, run, share
from benchmarks.sleeping import DONE, GO, IMAGE_SIZE, READY, SECONDS
from extract.leases import LEASE_S
from shards.errors import BadInput
from shards.lock import LOCK
from shards.mirror import LOCAL_CACHE
from shards.stores import is_url, open_store

NUM_PROCESSES, SHARD_SIZE = 4, 8
KILLED_LEASE_S = 4.0
"""Of `kill`, where the default would be waited for again and again."""
SIZES = {"shards": 128, "shard_s": 1.0, "kills": 6}
QUICK_SIZES = {"shards": 24, "shard_s": 0.5, "kills": 1}
GOAL = 0.9


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """One extraction a round into a new folder and a new bucket."""
    sizes = QUICK_SIZES if options.quick else SIZES
    report = Report("do machines share an extraction?", "shards", sizes | {"processes": NUM_PROCESSES})
    with _bucket_server() as endpoint:
        sharing = _Sharing(folder, sizes, endpoint)
        sharing.alone()
        if options.case == "kill":
            for where in ("folder", "bucket"):
                killed, seconds_a_shard, different = sharing.killing(sharing.place(where))
                equal = f"no, {len(different)} files differ, as {different[0]}" if different else "yes"
                print(f"sharing: {where}: {killed} killed; every byte that of a single process: {equal}", flush=True)
                report.add_rates({f"{where}, {killed} killed": [seconds_a_shard]})
                name = f"{where}: files of a single process, {killed} killed"
                report.figures.append(Figure(name, "every byte", Spread.of([float(not different)]), 1.0))
            return report
        seconds = alternate(
            {where: lambda where=where: sharing.steady(sharing.place(where)) for where in ("folder", "bucket")},  # type: ignore[misc]
            options.rounds,
        )
    report.add_rates(seconds)
    ideal = [sizes["shard_s"] / NUM_PROCESSES] * options.rounds
    for where, found in seconds.items():
        report.figures.append(Figure(f"{where}: shards/s of four", "four that only sleep", share(ideal, found), GOAL))
    return report


@contextmanager
def _bucket_server() -> Iterator[str]:
    """A real S3 server's address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else it prints every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class _Sharing:
    """Extractions of the same data, by several processes."""

    def __init__(self, folder: Path, sizes: Mapping[str, float], endpoint: str) -> None:
        self.folder, self.sizes, self.endpoint = folder, sizes, endpoint
        self._numbers, self._random = itertools.count(), random.Random(0)
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": endpoint}
        os.environ |= keys
        self._expected: dict[str, bytes] = {}

    def place(self, where: str) -> str:
        """A new folder, or a new bucket's URL."""
        name = f"cache-{next(self._numbers)}"
        if where == "folder":
            return str(self.folder / name)
        connection = http.client.HTTPConnection(self.endpoint.removeprefix("http://"))
        connection.request("PUT", f"/{name}")
        if (status := connection.getresponse().status) != 200:
            raise BadInput(f"the bucket's server answers {status}")
        return f"s3://{name}/cache"

    def alone(self) -> None:
        """What a single process writes."""
        out = str(self.folder / "alone")
        self._end(self._start(out, 0, "--launch", "local", SLEEP_S="0"))
        self._expected = _contents(out)

    def steady(self, out: str) -> float:
        """Seconds a shard with all processes from the beginning to the end."""
        go = self._file(GO)
        each = [self._start_at(out, number, go) for number in range(NUM_PROCESSES)]
        while not all(files[READY].exists() for _, files in each):
            if any(process.poll() for process, _ in each):
                break  # its own words say why
            time.sleep(0.05)
        go.touch()
        for process, _ in each:
            self._end(process)
        if different := self._different(out):
            raise BadInput(f"{out}: {len(different)} files differ from a single process's, as {different[0]}")
        return self._seconds([files for _, files in each]) / self.sizes["shards"]

    def killing(self, out: str) -> tuple[int, float, list[str]]:
        """How many were killed, seconds a shard, and the files that are not those of a single process.

        One that works is killed where a further share of the shards is committed, so that all kills fall into the work
        however long a process takes to start.
        """
        go, lease = self._file(GO), {LEASE_S: str(KILLED_LEASE_S)}
        go.touch()
        each = [self._start_at(out, number, go, **lease) for number in range(NUM_PROCESSES)]
        all_files, killed = [files for _, files in each], 0
        while all(process.poll() is None for process, _ in each):
            time.sleep(0.5 if is_url(out) else 0.1)  # the bucket's server is in this process
            working = [number for number, (_, files) in enumerate(each) if files[READY].exists()]
            due = (killed + 1) * self.sizes["shards"] / (self.sizes["kills"] + 1)
            if killed < self.sizes["kills"] and working and _num_committed(out) >= due:
                number = self._random.choice(working)
                each[number][0].kill()
                each[number][0].communicate()
                each[number], killed = self._start_at(out, number, go, **lease), killed + 1
                all_files.append(each[number][1])
        for process, _ in each:
            self._end(process)
        return killed, self._seconds(all_files) / self.sizes["shards"], self._different(out)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._numbers)}"

    def _seconds(self, of_all: Sequence[Mapping[str, Path]]) -> float:
        """From the first beginning of work to the last end; of a process that was killed neither is known."""
        times = [tuple(map(float, files[DONE].read_text().split())) for files in of_all if files[DONE].exists()]
        begun = [files[READY].stat().st_mtime for files in of_all if files[READY].exists()]
        first = min(min(start for start, _ in times), time.monotonic() - time.time() + min(begun))
        return max(end for _, end in times) - first

    def _start_at(
        self, out: str, number: int, go: Path, **environment: str
    ) -> "tuple[subprocess.Popen[str], dict[str, Path]]":
        """A process that works from when `go` is there, and the files by which it says so."""
        files = {READY: self._file(READY), DONE: self._file(DONE)}
        named = {name: str(path) for name, path in files.items()}
        return self._start(out, number, **named, **{GO: str(go)}, **environment), files

    def _start(self, out: str, number: int, *flags: str, **environment: str) -> "subprocess.Popen[str]":
        samples = int(self.sizes["shards"]) * SHARD_SIZE
        words = ["--teacher", "sleep", "--data", "digits", "--limit", samples, "--shard_size", SHARD_SIZE, "--out", out]
        words += ["--view", f"size={IMAGE_SIZE}", "--devices", "cpu", "--launch", "shared", *flags]
        mirror = f"{self.folder / Path(out).name}-mirror-{number}-{out.split('/')[2] if is_url(out) else ''}"
        settings = {LOCAL_CACHE: mirror, "OMP_NUM_THREADS": "1"}
        settings[SECONDS] = str(self.sizes["shard_s"] / SHARD_SIZE)
        command = [sys.executable, "-m", "benchmarks.sleeping", *map(str, words)]
        pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env={**os.environ, **settings, **environment}, **pipe)

    def _end(self, process: "subprocess.Popen[str]") -> None:
        _, errors = process.communicate()
        if process.returncode:
            raise BadInput(f"extract ended with {process.returncode}: {errors.strip()[-300:]}")

    def _different(self, out: str) -> list[str]:
        """The files that are not as a single process wrote them, or that it did not write; then `out` is gone."""
        found = _contents(out)
        different = [name for name in self._expected | found if found.get(name) != self._expected.get(name)]
        if not is_url(out) and not different:
            shutil.rmtree(out)
        return different


def _num_committed(out: str) -> int:
    """Shards whose targets are committed."""
    if is_url(out):
        return sum("/targets/" in name and "/commits/" in name for name in open_store(out).sizes())
    return sum(1 for _ in Path(out).glob("*/targets/*/commits/*.json"))


def _contents(out: str) -> dict[str, bytes]:
    if is_url(out):
        store = open_store(out)
        return {name: store.get(name) for name in store.sizes()}
    paths = (path for path in Path(out).rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


if __name__ == "__main__":
    run(measure, "sharing", cases=("steady", "kill"))
