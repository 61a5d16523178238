"""`--launch ray`: this command begins and finishes, and the nodes of a Ray cluster (Ray Core) run a shard a task.

A task whose node vanishes runs again on another one. All nodes see the cache under the same path, and have this
project installed. RAY_ADDRESS says which cluster; without it Ray takes the one of this machine, or starts it.
"""

import contextlib
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.launch import Job, Launcher, refuse_options
from extract.launch.shared import Shared
from shards.command.progress import Progress
from shards.errors import BadInput, TeacherShardsError, one_line

if TYPE_CHECKING:
    from extract.config import ExtractConfig
    from extract.pipeline import Counts
    from shards.layout import Place

OPTIONS = ("num_cpus", "num_gpus", "accelerator_type")
"""Of a task, as Ray calls them."""
RETRIES = 20
"""Nodes that a shard may lose: one that ends its process each time, as by lack of memory, must end the run."""


@dataclass(frozen=True)
class RayCore(Launcher):
    """Gives each shard that lacks something to a task."""

    options: Mapping[str, str]
    shares = True

    def check(self, config: "ExtractConfig") -> None:
        """Raises BadInput for a number of processes, which is Ray's to choose."""
        if config.devices.isdecimal():
            raise BadInput(f"--devices {config.devices}: --launch ray starts the processes; give auto, cpu or cuda")

    def begin(self, job: Job) -> Job:
        """The nodes can read what it began. It computes nothing: the first task finds the codecs' statistics."""
        job.board.send(())
        return job

    def run(self, job: Job) -> "Counts":
        """Every shard is committed when this returns. A mistake in a task ends them all, in the task's own line."""
        import ray

        try:
            ray.init(logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BadInput(f"--launch ray: {one_line(error)}; check RAY_ADDRESS, or unset it") from None
        try:
            return _run(job, self._needs(job.config))
        finally:
            ray.shutdown()

    def _needs(self, config: "ExtractConfig") -> dict[str, Any]:
        """What a task takes of a node: a GPU where the cluster has any, else a core."""
        import ray

        gpus = config.devices != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(gpus)}
        needs |= {name: float(text) if _is_number(text) else text for name, text in self.options.items()}
        _note_what_is_lacking(needs, ray.cluster_resources())
        return needs


def make(options: Mapping[str, str]) -> RayCore:
    """The launcher of Ray's tasks; BadInput where Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise BadInput(f"--launch ray: {error}; pip install 'teacher-shards[ray]'") from error
    refuse_options("ray", options, OPTIONS)
    for name, text in options.items():
        if name != "accelerator_type" and not _is_number(text):
            raise BadInput(f"--launch ray: {name}={text}: expected a number")
    return RayCore(options)


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdecimal()


def _note_what_is_lacking(needs: Mapping[str, Any], there: Mapping[str, float]) -> None:
    """A task that no node can take waits, for a cluster may grow; the user hears what for."""
    for name, value in needs.items():
        key, least = {"num_cpus": ("CPU", value), "num_gpus": ("GPU", value)}.get(
            name, (f"accelerator_type:{value}", 0.001)
        )
        if there.get(key, 0.0) < least:
            print(f"extract: note: no node of the cluster has {name}={value} now; waiting for one", flush=True)


def _run(job: Job, needs: Mapping[str, Any]) -> "Counts":
    import ray

    from extract.pipeline import Counts

    task = ray.remote(**needs, max_retries=RETRIES, scheduling_strategy="SPREAD")(_shard)
    views, config = job.extraction.parts[0].views, job.config
    request = views.plan.request
    untyped = config.data in (None, request["data"]) and config.data_dir is None
    if views.source is not None and untyped:  # what an earlier command has named a node opens too
        config = replace(config, data=request["data"], data_dir=request.get("data_dir"))
    places = [place for place, _ in replace(job.extraction, rank=0, num_processes=1).work()]
    num_threads = max(1, int(needs["num_cpus"]))
    total, waiting, told = Counts(), list[Any](), set[str]()
    with Progress("extract", len(places), "shards") as progress:
        for number, place in enumerate(places):
            waiting.append(task.remote(config, str(Path.cwd()), place, num_threads))
            while waiting and (number == 0 or number == len(places) - 1):  # the first one calibrates, alone
                (done,), waiting = ray.wait(waiting)
                counts = _result(done)
                total = Counts(**{name: n + counts[name] for name, n in asdict(total).items()})
                job.board.count_sent(*counts["sent"])
                for line in counts["said"]:
                    if line not in told:
                        print(line, flush=True)
                told.update(counts["said"])
                progress.advance()
    return total


def _result(done: Any) -> dict[str, Any]:
    """What a task returned; its own mistake, or one line where no node could end it."""
    import ray

    try:
        counts: dict[str, Any] = ray.get(done)
        return counts
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (TeacherShardsError, OSError)):  # OSError: a node's disk is full
            raise error.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        kind = type(error).__name__
        raise BadInput(
            f"--launch ray: a shard's process ended {RETRIES + 1} times ({kind}); give a task more (--launch "
            f"ray:num_cpus=4); what was committed is kept, the same command resumes"
        ) from None


_JOBS: dict[str, tuple[Job, list[str]]] = {}
"""In a process of a node: the teacher is loaded once, by the configuration; and the lines that it said."""


def _shard(config: "ExtractConfig", folder: str, place: "Place", num_threads: int) -> dict[str, Any]:
    """One shard is committed; runs on a node, in the folder of the command."""
    from extract.memory import what_to_lower
    from shards.command.devices import device_memory

    os.chdir(folder)
    with device_memory(what_to_lower(config)):
        if (key := repr(config)) not in _JOBS:
            _JOBS[key] = _ready(config, num_threads)
        job, said = _JOBS[key]
        job.board.look_for([place, (0, place[1])])  # by nodes that vanished, or that made what this view is read with
        counts = replace(job.extraction, places=[place]).run()
    before = job.board.sent()
    job.board.send([place])
    sent = [number - former for number, former in zip(job.board.sent(), before, strict=True)]
    return {**asdict(counts), "sent": sent, "said": said}


def _ready(config: "ExtractConfig", num_threads: int) -> tuple[Job, list[str]]:
    """This node's part of the job: one process on its first device, with so many threads at most.

    And the lines that it said, for the command to print: a node's own output is seen by nobody.
    """
    from extract.phases import folder_of, planned
    from extract.sharing import turn

    with turn(folder_of(config.out, shared=True)), contextlib.redirect_stdout(io.StringIO()) as said:
        work = planned(config, shared=True, num_threads=num_threads)
        job = Shared().begin(Job(config, [], work.extraction, work.board, -1))
    return job, said.getvalue().splitlines()
