"""Power loss: a command is recorded, and what the next one makes of every disk that it may have left behind."""

import multiprocessing
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from caches import contents
from losses import State, distinct, replayed
from recorder import Call, Disk, Recorder
from small_caches import quick_folder, run

from shards.errors import TeacherShardsError

CACHE = "cache"
Result = TypeVar("Result")


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


@dataclass
class Recorded:
    """What a command asked of the disk, and what is left where it and the next one were not disturbed."""

    before: Disk
    calls: list[Call]
    reference: dict[str, bytes]


@dataclass
class Found:
    """What was found after all losses."""

    calls: int = 0
    states: int = 0
    """Disks, no two of which are the same."""
    unread: list[str] = field(default_factory=list)
    """What could not be read before the command was typed again, in the words of who refused it."""
    refused: list[str] = field(default_factory=list)
    """What the command, typed again, refused to go on from."""


def play(scenario: Scenario, states: int, seed: int = 0, workers: int = 1) -> Found:
    """The command goes on from so many different disks, of all its moments alike, or from all that there are.

    AssertionError for the first that went wrong. Several workers are forked processes: no thread may run before.
    """
    root = quick_folder()
    try:
        forks = workers > 1
        recorded = shared_out(lambda _: record(scenario, root), 1, forks)[0]
        chosen = distinct(recorded.before, recorded.calls, scenario.promised, states, seed)

        def check(number: int) -> Found:
            found, place = Found(len(recorded.calls)), root / f"state-{number}"
            for state in chosen[number::workers]:
                _check_state(scenario, recorded, state, place, found)
            return found

        parts = shared_out(check, workers, forks)
        return Found(
            len(recorded.calls),
            sum(part.states for part in parts),
            [line for part in parts for line in part.unread],
            [line for part in parts for line in part.refused],
        )
    finally:
        shutil.rmtree(root, ignore_errors=True)


def record(scenario: Scenario, root: Path) -> Recorded:
    """Carry the command out twice, in folders below `root`: once it is recorded, and once another follows it."""
    whole, work = root / "whole", root / "work"
    for folder in (whole, work):
        folder.mkdir()
        scenario.before(folder / CACHE)
    recorder = Recorder(work, scenario.beside)
    with recorder.recording():
        scenario.command(work / CACHE)
    scenario.command(whole / CACHE)
    scenario.again(whole / CACHE)
    return Recorded(recorder.before, recorder.calls, scenario.kept(whole / CACHE))


def _check_state(scenario: Scenario, recorded: Recorded, state: State, place: Path, found: Found) -> None:
    """Nothing is wrong, and the same command goes on to the same files."""
    moment, lost = state
    shutil.rmtree(place, ignore_errors=True)
    replayed(recorded.before, recorded.calls[:moment], lost).write_to(place)
    cache = place / CACHE
    found.states += 1
    try:
        try:
            scenario.check(cache)
        except TeacherShardsError as error:
            found.unread.append(str(error).replace(str(place), ""))
        run(lambda: scenario.again(cache))
        kept = scenario.kept(cache)
        assert kept.keys() == recorded.reference.keys()
        assert [name for name, content in kept.items() if recorded.reference[name] != content] == []
    except TeacherShardsError as error:
        found.refused.append(str(error).replace(str(place), ""))
    except BaseException as error:
        what = [f"{way} of {recorded.calls[at]}"[:200] for at, way in lost.items()]
        error.add_note("\n  ".join([f"after {moment} calls, of which were lost:", *what]))
        raise


def shared_out(work: Callable[[int], Result], count: int, forks: bool) -> list[Result]:
    """`work(0)`, `work(1)` ..., each in a process of its own where it `forks`; an error of one is raised here."""
    if not forks:
        return [work(number) for number in range(count)]
    context = multiprocessing.get_context("fork")
    ends = []
    for number in range(count):
        there, here = context.Pipe(duplex=False)
        context.Process(target=_send, args=(work, number, here)).start()
        here.close()
        ends.append(there)
    results = [end.recv() for end in ends]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _send(work: Callable[[int], Result], number: int, there: Connection) -> None:
    try:
        there.send(work(number))
    except BaseException as error:
        error.add_note(traceback.format_exc())  # it does not travel
        there.send(error)
