"""Power loss: what a disk may hold after one, for every moment of a command, and what the next command makes of it.

After ALICE (Pillai et al. 2014, OSDI, section 3.1), with the weakest file system that POSIX allows: what was not synced
may be lost or not, call by call and in any order. The data of a file are safe when the file was synced, and a name when
its folder was. Lost data leave a file empty, cut off or full of zeros.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import basename, dirname

from caches import contents
from recorder import Call, Disk, Recorder
from small_caches import Name, check, quick_folder, run, sets_in

from shards.errors import TeacherShardsError

CACHE = "cache"
COMMITS = ("viewset.json", "targetset.json", "plan.json")
"""Documents on which others rely, beside the commit records."""


@dataclass
class Found:
    """What was found after all losses."""

    states: int = 0
    calls: int = 0
    refused: list[str] = field(default_factory=list)
    """What a next command refused to go on from, in its words."""


@dataclass
class Scenario:
    """A command in `root`/cache, and what the same command, typed again, must make of the cache."""

    before: Callable[[Path], None]
    command: Callable[[Path], None]
    again: Callable[[Path], None]
    """Typed after the loss: it ends with the cache that it makes of an undisturbed one."""
    allowed: Mapping[Name, set[int]]
    """Views that each set may have in between; 0 for none."""


def play(scenario: Scenario, limit: int | None = None, stride: int = 1) -> Found:
    """Every loss at every `stride`th moment of the command, at most `limit` of them; AssertionError for a wrong one."""
    root, found = quick_folder(), Found()
    try:
        whole, work = root / "whole", root / "work"
        for folder in (whole, work):
            folder.mkdir()
            scenario.before(folder / CACHE)
        recorder = Recorder(work)
        with recorder.recording():
            scenario.command(work / CACHE)
        scenario.command(whole / CACHE)
        scenario.again(whole / CACHE)
        reference, seen = contents(whole / CACHE), set[bytes]()
        found.calls = len(recorder.calls)
        for moment in range(0, len(recorder.calls) + 1, stride):
            for lost in losses(recorder.calls[:moment]):
                disk = replayed(recorder.before, recorder.calls[:moment], lost)
                promised = promises(recorder.before, recorder.calls[:moment])
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
    """Nothing, all, each call alone, and all but each."""
    unsafe = [place for place, call in enumerate(calls) if not is_safe(call, calls[place + 1 :])]
    yield {}
    yield dict.fromkeys(unsafe, "none")
    for place in unsafe:
        for how in ("none", "half", "zeros") if calls[place].kind == "write" else ("none",):
            yield {place: how}
        yield {each: "none" for each in unsafe if each != place}


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


def promises(before: Disk, calls: list[Call]) -> dict[str, bytes]:
    """Manifests, plans and commit records, by name, that the command has synced and believes to be on the disk."""
    now, safe = before.copy(), dict[str, bytes]()
    fresh: dict[str, set[str]] = {}
    for call in calls:
        now.apply(call)
        if call.is_of_names:
            safe.pop(call.path, None) if call.kind in ("unlink", "rmdir") else None
            fresh.setdefault(call.place, set()).add(call.path)
        elif call.kind == "sync" and call.file < 0:
            for name in fresh.pop(call.path, ()):
                if name in now.names and (basename(name) in COMMITS or "/commits/v" in name):
                    safe[name] = now.data[now.names[name]]
    removed = [call.path for call in calls if call.kind == "unlink" and basename(call.path) in COMMITS]
    sets = tuple(f"{dirname(name)}/" for name in removed)
    return {name: data for name, data in safe.items() if not (sets and name.startswith(sets))}


def digest_of(disk: Disk, promised: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name, content in sorted(disk.files().items()):
        digest.update(f"{name} {len(content)} ".encode() + hashlib.sha256(content).digest())
    digest.update(repr((sorted(disk.reached()), sorted(promised))).encode())
    return digest.digest()


def _check_state(
    scenario: Scenario,
    disk: Disk,
    promised: Mapping[str, bytes],
    reference: dict[str, bytes],
    state: Path,
    found: Found,
) -> None:
    """Nothing promised is lost, nothing is wrong, and the same command goes on to the same bytes."""
    shutil.rmtree(state, ignore_errors=True)
    disk.write_to(state)
    there = contents(state)
    for name, content in promised.items():
        assert there.get(name) == content, f"{name}: was synced, and is lost or torn"
        for file in json.loads(content).get("files", {}):
            assert f"{dirname(name).removesuffix('/commits')}/{file}" in there, f"{name}: its {file} is lost"
    cache = state / CACHE
    try:
        whole = {name: views for name, (_, views) in sets_in(cache).items() if views}
        assert all(views in scenario.allowed.get(name, {0}) for name, views in whole.items()), whole
        check(cache, whole, scenario.allowed.keys())
    except TeacherShardsError as error:
        found.refused.append(str(error).replace(str(state), ""))
    try:
        run(lambda: scenario.again(cache))
    except TeacherShardsError as error:
        found.refused.append(str(error).replace(str(state), ""))
        return
    assert contents(cache) == reference
