"""Runs `python -m extract` in forked processes and kills them with SIGKILL, until one of them reaches the end.

Kills come after a random time (`time`), or before a system call that writes or halfway through one (`step`). A fresh
process a run would spend its time with imports: this one imports everything once, by making the reference without
interruption, and forks. After every kill each file of the cache that is not a leftover must be the very file of the
reference, or what it was before.
"""

import contextlib
import functools
import io
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caches import DIGITS, Outcome, command, contents, extract
from pairs import write_pairs
from texts import write_corpus, write_encoder

STEPS = ("open", "write", "fsync", "replace", "mkdir", "link")


def dies_at(number: int) -> None:
    """From now on the `number`th system call that writes kills this process; a write puts half of its bytes first."""
    counter = itertools.count(1)

    def wrapped(step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            writes = step != "open" or arguments[1] & os.O_CREAT
            if writes and next(counter) == number:
                if step == "write":
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return one

    for step in STEPS:
        setattr(os, step, wrapped(step, getattr(os, step)))


def forked(flags: list[str], prepare: Callable[[], None], kill_after_s: float | None = None) -> Outcome | None:
    """The command's outcome in a process of its own; None when it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stderr(io.StringIO()):
            prepare()
            outcome = command("extract", *flags)
        os.write(write, json.dumps(vars(outcome)).encode())
        os._exit(0)
    os.close(write)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    return None if os.WIFSIGNALED(status) else Outcome(**json.loads(said))


def torn(cache: Path, reference: dict[str, bytes], before: dict[str, bytes]) -> list[str]:
    """The files, leftovers of the killed run set aside, that are neither the reference's nor what they were before."""
    found = contents(cache) if cache.exists() else {}
    return [
        name
        for name, data in found.items()
        if "/.partial-" not in name
        and not name.startswith(".scratch/")
        and data not in (reference.get(name), before.get(name))
    ]


def unreadable(cache: Path) -> list[str]:
    """What a reader says of the sets that claim to be whole."""
    from shards.errors import TeacherShardsError
    from shards.reader import TargetSet, ViewSet

    said = []
    for manifest in [*cache.glob("*/viewset.json"), *cache.glob("*/targets/*/targetset.json")]:
        try:
            if manifest.name == "viewset.json":
                views = ViewSet(manifest.parent)
                assert all(views.rows(view, views.usable.tolist()) for view in range(views.num_views))
            else:
                import numpy as np

                targets = TargetSet(manifest.parent)
                assert all(targets.read(view, np.arange(targets.num_samples)) for view in range(targets.num_views))
        except TeacherShardsError as error:
            said.append(str(error))
    return said


def killed_until_done(
    how: str, seed: int, reference: Path, cache: Path, flags: list[str], stride: int
) -> dict[str, Any]:
    """Kill and resume until a run reaches the end; what was found on the way."""
    before = contents(cache) if cache.exists() else {}
    command("extract", *flags, "--out", str(reference)).succeeds()
    whole = contents(reference)
    chance = random.Random(seed)
    found: dict[str, Any] = {"kills": 0, "torn": [], "unreadable": [], "leftovers": 0}
    for attempt in range(200):
        arguments = [*flags, "--out", str(cache)]
        if how == "step":
            number = 1 + attempt * stride + chance.randrange(6)
            outcome = forked(arguments, functools.partial(dies_at, number))
        else:
            outcome = forked(arguments, lambda: None, kill_after_s=chance.uniform(0.0, 0.03 * (attempt + 1)))
        found["torn"] += torn(cache, whole, before)
        found["unreadable"] += unreadable(cache) if attempt % 3 == 0 else []
        found["leftovers"] += sum("/.partial-" in name for name in contents(cache)) if cache.exists() else 0
        if outcome is not None:
            outcome.succeeds()
            break
        found["kills"] += 1
    return found


def limited(size_bytes: int, cache: Path, flags: list[str]) -> dict[str, Any]:
    """A run whose files may have no more than `size_bytes` bytes: the kernel itself refuses the write (EFBIG)."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    outcome = forked([*flags, "--out", str(cache)], prepare)
    assert outcome is not None
    return vars(outcome)


@dataclass(frozen=True)
class Job:
    """One interrupted extraction."""

    how: str
    number: int
    """The seed of the kills, or the bytes that a file may have."""
    reference: str
    cache: str
    flags: list[str]
    stride: int = 1
    """Calls by which each attempt comes further."""

    def run(self) -> dict[str, Any]:
        if self.how == "limit":
            command("extract", *self.flags, "--out", self.reference).succeeds()
            return limited(self.number, Path(self.cache), self.flags)
        return killed_until_done(self.how, self.number, Path(self.reference), Path(self.cache), self.flags, self.stride)


def job(folder: Path, teacher: Path, how: str, seed: int, *more: str) -> Job:
    folder.mkdir()
    return Job(how, seed, str(folder / "reference"), str(folder / "cache"), flags(teacher, *more), 1 if seed else 6)


def flags(teacher: Path, *more: str) -> list[str]:
    """Of an exported network's folder, or of a data2vec 2.0 checkpoint."""
    spec = ["data2vec2", "--weights", str(teacher)] if teacher.suffix == ".pt" else [f"run:{teacher}"]
    return ["--teacher", *spec, *DIGITS, "--limit", "20", "--shard_size", "6", *more]


def fresh(folder: Path, teacher: Path, how: str, seed: int) -> Job:
    """An extraction from nothing: two views, two target sets, one of them of three arrays."""
    more = ("--views", "2", "--target", "logits,pooled", "--codec", "topk:3,int8")
    return job(folder, teacher, how, seed, *more)


def of_texts(folder: Path, seed: int) -> Job:
    """An extraction from a corpus: it is tokenised into scratch parts, and its views are arrays."""
    corpus, encoder = write_corpus(folder / "lines"), write_encoder(folder / "encoder")
    words = ["--teacher", f"hf:{encoder}", "--data", f"text:{corpus}", "--devices", "cpu", "--shard_size", "8"]
    words += ["--view", "blocks:size=12,pack=none", "--target", "layer_mean,pooled", "--codec", "int8,float16"]
    return Job("step", seed, str(folder / "reference"), str(folder / "cache"), words, 1 if seed else 8)


def of_pairs(folder: Path, teacher: Path, seed: int) -> Job:
    """An extraction of images with their captions, which lie in the views' .json."""
    words = ["--teacher", f"run:{teacher}", "--data", f"wds:{write_pairs(folder / 'tars', 20)}:captions=caption"]
    words += ["--view", "pair:size=16", "--devices", "cpu", "--shard_size", "6", "--target", "logits,pooled"]
    return Job("step", seed, str(folder / "reference"), str(folder / "cache"), words, 1 if seed else 5)


def growing(folder: Path, teacher: Path, how: str, seed: int) -> Job:
    """A growth from one view to three."""
    found = job(folder, teacher, how, seed, "--views", "3")
    for out in (found.reference, found.cache):
        extract("--out", out, *flags(teacher, "--views", "1"))
    return found


def of_rendered(folder: Path, teacher: Path, how: str, seed: int) -> Job:
    """Three views that are rendered from images, which are stored with the first."""
    return job(folder, teacher, how, seed, "--view", "crop:size=16,store=source", "--views", "3")


def kept(folder: Path, checkpoint: Path, how: str, seed: int) -> Job:
    """Four tokens a view of a layer mean in int8, CLS whole beside them: a calibration and arrays of three kinds."""
    return job(folder, checkpoint, how, seed, "--target", "layer_mean,cls", "--keep_tokens", "4")


def limited_to(folder: Path, teacher: Path, size_bytes: int) -> Job:
    """An extraction whose files may have no more than so many bytes: its tars have more."""
    return job(folder, teacher, "limit", size_bytes)


Interrupted = dict[str, tuple[Job, dict[str, Any]]]
"""Jobs by name, and what each found."""

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


def in_another_process(jobs: list[Job]) -> list[dict[str, Any]]:
    """What each job found, run by one process that nothing of pytest is in."""
    said = json.dumps([vars(job) for job in jobs])
    run = subprocess.run(
        [sys.executable, __file__],
        input=said,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: list[dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps([Job(**job).run() for job in json.load(sys.stdin)]))
