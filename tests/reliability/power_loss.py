"""Power loss: what a disk may hold after one, for every moment of a command, and what the next command makes of it.

After ALICE (Pillai et al. 2014, OSDI, section 3.1), with the weakest file system that POSIX allows: what was not synced
may be lost or not, call by call and in any order. The data of a file are safe when the file was synced, and a name when
its folder was. Lost data leave a file empty, cut off or full of zeros.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path

from caches import contents
from recorder import Call, Disk, Recorder
from small_caches import quick_folder, run

from shards.errors import TeacherShardsError

CACHE = "cache"
FEW = 5
"""Unsafe calls of which any may be lost in any combination."""


@dataclass
class Found:
    """What was found after all losses."""

    states: int = 0
    calls: int = 0
    refused: list[str] = field(default_factory=list)
    """What a next command refused to go on from, in its words."""


@dataclass
class Scenario:
    """A command in `root`/cache, and what the same command, typed again, must make of what is left of it."""

    before: Callable[[Path], None]
    command: Callable[[Path], None]
    again: Callable[[Path], None]
    """Typed after the loss: it ends with what it makes of an undisturbed one."""
    check: Callable[[Path], None]
    """Before it is typed: AssertionError where something is wrong, TeacherShardsError where it would be refused."""
    promised: Callable[[str], bool]
    """Whether a file of that name is believed to be on the disk as soon as its name is synced."""
    kept: Callable[[Path], dict[str, bytes]] = contents
    """What must be the same in the end."""
    beside: str = ""
    """A folder in which others write, by ways of their own; it is lost each time."""


def play(scenario: Scenario, limit: int | None = None, stride: int = 1) -> Found:
    """Every loss at every `stride`th moment of the command, at most `limit` of them; AssertionError for a wrong one."""
    root, found = quick_folder(), Found()
    try:
        whole, work = root / "whole", root / "work"
        for folder in (whole, work):
            folder.mkdir()
            scenario.before(folder / CACHE)
        recorder = Recorder(work, scenario.beside)
        with recorder.recording():
            scenario.command(work / CACHE)
        scenario.command(whole / CACHE)
        scenario.again(whole / CACHE)
        reference, seen = scenario.kept(whole / CACHE), set[bytes]()
        found.calls = len(recorder.calls)
        for moment in range(0, len(recorder.calls) + 1, stride):
            calls = recorder.calls[:moment]
            promised = promises(recorder.before, calls, scenario.promised)
            for lost in losses(calls):
                disk = replayed(recorder.before, calls, lost)
                digest = digest_of(disk, promised)
                if digest not in seen and (limit is None or found.states < limit):
                    seen.add(digest)
                    found.states += 1
                    _check_state(scenario, disk, promised, reference, root / "state", found)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return found


Lost = Mapping[int, str]
"""Calls by their place, and how each is lost: none, half or zeros of the data, or the name."""


def losses(calls: list[Call]) -> Iterator[Lost]:
    """Any of the calls that are not safe, where these are few; of many none, all, each alone, and all but each."""
    unsafe = [place for place, call in enumerate(calls) if not is_safe(call, calls[place + 1 :])]
    sizes = range(len(unsafe) + 1) if len(unsafe) <= FEW else {0, 1, len(unsafe) - 1, len(unsafe)}
    for lost in chain.from_iterable(combinations(unsafe, size) for size in sorted(sizes)):
        of_data = [place for place in lost if calls[place].kind == "write"]
        for how in ("none", "half", "zeros") if of_data else ("none",):
            yield dict.fromkeys(lost, "none") | dict.fromkeys(of_data, how)


def is_safe(call: Call, later: list[Call]) -> bool:
    """Whether a later sync has brought it to the disk; a sync itself has nothing to lose."""
    if call.is_of_names:
        return any(each.kind == "sync" and each.path == call.place for each in later)
    return call.kind == "sync" or any(each.kind == "sync" and each.file == call.file for each in later)


def replayed(before: Disk, calls: list[Call], lost: Lost) -> Disk:
    disk = before.copy()
    for place, call in enumerate(calls):
        how = lost.get(place)
        if how in ("half", "zeros"):
            data = call.data[: len(call.data) // 2] if how == "half" else bytes(len(call.data))
            disk.apply(Call("write", file=call.file, data=data))
        elif how is None and call.kind != "sync":
            disk.apply(call)
    return disk


def promises(before: Disk, calls: list[Call], promised: Callable[[str], bool]) -> dict[str, set[bytes]]:
    """What each promised file may hold: what it held when its name was synced last, and what was put there since."""
    now, safe, fresh = before.copy(), dict[str, set[bytes]](), dict[str, dict[str, bytes]]()
    for call in calls:
        now.apply(call)
        if call.kind in ("unlink", "rmdir"):  # it is being removed, and all that lies in its folder with it
            place = f"{call.place}/" if promised(call.path) else call.path
            safe = {name: held for name, held in safe.items() if not name.startswith(place)}
            fresh = {folder: names for folder, names in fresh.items() if not f"{folder}/".startswith(place)}
        elif call.is_of_names and call.kind != "mkdir" and promised(call.path):
            fresh.setdefault(call.place, {})[call.path] = now.data[call.file]
            safe.get(call.path, set()).add(now.data[call.file])
        elif call.kind == "sync" and call.file < 0:
            safe |= {name: {content} for name, content in fresh.pop(call.path, {}).items()}
    return safe


def digest_of(disk: Disk, promised: Mapping[str, set[bytes]]) -> bytes:
    digest = hashlib.sha256()
    for name, content in sorted(disk.files().items()):
        digest.update(f"{name} {len(content)} ".encode() + hashlib.sha256(content).digest())
    digest.update(repr((sorted(disk.reached()), sorted(promised))).encode())
    return digest.digest()


def _check_state(
    scenario: Scenario,
    disk: Disk,
    promised: Mapping[str, set[bytes]],
    reference: dict[str, bytes],
    state: Path,
    found: Found,
) -> None:
    """Nothing promised is lost, nothing is wrong, and the same command goes on to the same bytes."""
    shutil.rmtree(state, ignore_errors=True)
    disk.write_to(state)
    there = contents(state)
    for name, held in promised.items():
        assert there.get(name) in held, f"{name}: was synced, and is lost or torn"
    cache = state / CACHE
    try:
        scenario.check(cache)
    except TeacherShardsError as error:
        found.refused.append(str(error).replace(str(state), ""))
    try:
        run(lambda: scenario.again(cache))
    except TeacherShardsError as error:
        found.refused.append(str(error).replace(str(state), ""))
        return
    assert scenario.kept(cache) == reference
