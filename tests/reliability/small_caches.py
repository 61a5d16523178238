"""Small caches of rows: extracted in this process or in a forked one, listed, and compared with what they must hold."""

import atexit
import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from caches import contents
from dying import Killed, dying, killed
from expected import NUM_SAMPLES, SHARD_SIZE, TARGETS, expected

from extract.__main__ import _extract
from extract.config import ExtractConfig
from extract.launch import make_launcher
from extract.leases import LEASE_S
from shards.cache import list_viewsets
from shards.reader import TargetSet, ViewSet
from shards.verify import verify

Name = tuple[str, str]
"""Of a set: its split, and which of TARGETS it is; "" for the view set."""
NEVER = 1 << 40
PATIENCE_S = 60


def quick_folder() -> Path:
    """A new folder, in memory where the system has such a place: an fsync costs nothing there."""
    return Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))


@cache
def shelf() -> Path:
    """A folder of what commands read; it stays until this process ends. Processes that are forked from it share it."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return folder


def without_drafts(place: Path) -> dict[str, bytes]:
    """What lies in a folder but half-written files and probes of a command that was cut off, where none lists them."""
    drafts = (".partial-", ".probe-")
    return {name: content for name, content in contents(place).items() if not Path(name).name.startswith(drafts)}


def extraction(cache: Path | str, split: str, views: int, targets: list[str], **options: Any) -> None:
    """`python -m extract` from its parsed flags on."""
    pairs = [TARGETS[name] for name in targets]
    target, codec = (",".join(each) for each in zip(*pairs, strict=True)) if pairs else (None, None)
    how = {"limit": NUM_SAMPLES, "shard_size": SHARD_SIZE, "target": target, "codec": codec, **options}
    teacher = "rows" if targets else "none"
    config = ExtractConfig(teacher, str(cache), data="rows", split=split, views=views, devices="cpu", **how)
    _extract(config, [], make_launcher(config.launch))


def run(work: Callable[[], None], moment: int | None = None, end: Callable[[], None] = killed) -> bool:
    """Whether `work` came to its end: it may die at a `moment`, and says nothing."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            with dying(moment or NEVER, end):
                work()
        except (Killed, OSError):
            if moment is None:
                raise
            return False
    return True


def forked(work: Callable[[], None], moment: int | None) -> int:
    """The number of a process that does `work`, and at a `moment` ends at once."""
    child = os.fork()
    if child == 0:
        os.environ[LEASE_S] = "0.3"
        status = 1
        try:
            run(work, moment, lambda: os._exit(2))
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    return child


def wait(child: int) -> bool:
    """Whether a forked process came to the end of its work; it may die, but raise nothing."""
    until = time.monotonic() + PATIENCE_S
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    status = os.waitstatus_to_exitcode(ended[1])
    assert status in (0, 2), f"a process that shares the work ended with {status}"
    return status == 0


def sets_in(cache: Path) -> dict[Name, tuple[Path, int]]:
    """The folder of each set that is listed, and its views; 0 where it is half written."""
    found = {}
    for viewset in list_viewsets(cache):
        found[viewset.split, ""] = viewset.folder, ViewSet(viewset.folder).num_views if viewset.whole else 0
        for each in viewset.targetsets:
            name = each.folder.name.removeprefix("rows-").rpartition("-")[0]
            found[viewset.split, name] = each.folder, each.manifest.num_views if each.whole else 0
    return found


def check(cache: Path, whole: Mapping[Name, int], begun: Collection[Name]) -> None:
    """The sets that are `whole` are listed and read as the dict says, all bytes are verified, and of the rest there
    are at most those that were `begun`."""
    sets = sets_in(cache)
    assert {name: views for name, (_, views) in sets.items() if views} == whole
    assert sets.keys() - whole.keys() <= {*begun}
    samples = np.arange(NUM_SAMPLES)
    for (split, name), views in whole.items():
        folder, held = sets[split, name][0], expected(split)
        for view in range(views):
            if name:
                read = TargetSet(folder).read(view, samples)
                assert read.keys() == held.targets[name][view].keys()
                for array, rows in held.targets[name][view].items():
                    np.testing.assert_array_equal(read[array], rows)
            else:
                np.testing.assert_array_equal(ViewSet(folder).rows(view, samples.tolist())["row"], held.views[view])
    findings = verify(list_viewsets(cache), 1)
    assert not findings.damage and not findings.newer, findings.damage
    assert len(findings.unfinished) == len(sets) - len(whole), findings.unfinished
    assert begun or not findings.notes, findings.notes
