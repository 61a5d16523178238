"""Sharing: four processes extract into one folder and into one bucket, with a teacher that sleeps instead of computing.

Each is `python -m extract --launch shared` with a mirror of its own, as on a machine of its own; the bucket is moto's
server. Of `steady` the time counts from the moment at which all four have begun, until the last of them has nothing
left to do. Of `kill` one of them is killed every few seconds and started again. Of both every byte must be that of a
single process, and nothing else may lie there.
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
from collections.abc import Iterator, Mapping
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
SIZES = {"shards": 128, "shard_s": 1.0, "kill_every_s": 10.0}
QUICK_SIZES = {"shards": 24, "shard_s": 0.5, "kill_every_s": 8.0}
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
                killed = sharing.killing(sharing.place(where))
                report.figures.append(
                    Figure(f"{where}: files of a single process, {killed} killed", "every byte", Spread.of([1.0]), 1.0)
                )
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
        files = {name: self.folder / f"{name}-{next(self._numbers)}" for name in (READY, GO, DONE)}
        each = [
            {READY: f"{files[READY]}-{number}", GO: str(files[GO]), DONE: f"{files[DONE]}-{number}"}
            for number in range(NUM_PROCESSES)
        ]
        processes = [self._start(out, number, **each[number]) for number in range(NUM_PROCESSES)]
        while not all(Path(of[READY]).exists() for of in each):
            if any(process.poll() for process in processes):
                break  # its own words say why
            time.sleep(0.05)
        files[GO].touch()
        for process in processes:
            self._end(process)
        times = [tuple(map(float, Path(of[DONE]).read_text().split())) for of in each]
        self._check(out)
        return (max(end for _, end in times) - min(start for start, _ in times)) / self.sizes["shards"]

    def killing(self, out: str) -> int:
        """One process is killed every few seconds and starts again, until the work is done; how often."""
        lease = {LEASE_S: str(KILLED_LEASE_S)}
        processes = [self._start(out, number, **lease) for number in range(NUM_PROCESSES)]
        killed, last = 0, time.monotonic()
        while all(process.poll() is None for process in processes):
            time.sleep(0.05)
            if time.monotonic() - last >= self.sizes["kill_every_s"]:
                last, number = time.monotonic(), self._random.randrange(NUM_PROCESSES)
                processes[number].kill()
                processes[number].communicate()
                processes[number], killed = self._start(out, number, **lease), killed + 1
        for process in processes:
            self._end(process)
        self._check(out)
        return killed

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

    def _check(self, out: str) -> None:
        """Raises BadInput where there is anything else than a single process wrote; then it is no longer there."""
        found = _contents(out)
        if different := [name for name in self._expected | found if found.get(name) != self._expected.get(name)]:
            raise BadInput(f"{out}: {len(different)} files differ from a single process's, as {different[0]}")
        if not is_url(out):
            shutil.rmtree(out)


def _contents(out: str) -> dict[str, bytes]:
    if is_url(out):
        store = open_store(out)
        return {name: store.get(name) for name in store.sizes()}
    paths = (path for path in Path(out).rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


if __name__ == "__main__":
    run(measure, "sharing", cases=("steady", "kill"))
