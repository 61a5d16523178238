"""Happened: a saved plan beside what the run then took."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from shards.bill.arithmetic import human_seconds
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.commit import write_atomically
from shards.errors import BadInput
from shards.records import Number
from shards.sealed import fields_of, read_object

_HAPPENED, _REMEDY = "happened", "remove it"
Amount = Annotated[float, Meta(ge=0, le=1e18)]


class _Predicted(Struct, frozen=True):
    """A saved plan: what is compared of it."""

    seconds: Amount
    bytes: Amount
    peak_device_bytes: Amount
    opening: Amount = 0.0


class _Noted(Struct, frozen=True):
    """What happened, as a plan's file has it."""

    seconds: Amount | None
    num_bytes: Number
    peak_device_bytes: Amount | None = None


@dataclass(frozen=True)
class Happened:
    """What a run took; None is what nobody measured."""

    seconds: float | None
    num_bytes: int
    """Of the files that it wrote."""
    peak_device_bytes: float | None = None


def plan_beside(out: Path) -> Path:
    """Where a plan is saved that the end of the run in `out` is to be compared with."""
    return out.absolute().with_name(f"{out.absolute().name}.plan.json")


def saved_plan(work: Mapping[str, Any], *places: Path | None) -> tuple[Path, dict[str, Any]] | None:
    """The first of `places` with a plan of this `work`, which names the command and what it makes, and that plan.

    What was predicted of another card is no plan of what this machine does.
    """
    for path in places:
        if path is not None and path.exists():
            with contextlib.suppress(BadInput):  # another file of the user's
                plan = read_object(path, "give another --plan save=FILE")
                of_here = plan.get("device_profile") is None
                if of_here and all(plan.get(name) == value for name, value in work.items()):
                    return path, plan
    return None


def written_since(plan: Path, folders: Iterable[Path]) -> int:
    """Bytes of the files of `folders` that are younger than the plan."""
    when, files = plan.stat().st_mtime, {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    stats = [path.stat() for path in files]
    return sum(each.st_size for each in stats if each.st_mtime >= when)


def commits_took(plan: Path, folders: Iterable[Path]) -> float | None:
    """Seconds from the first to the last commit of the sets in `folders` after the plan; None where there are few."""
    times = [path.stat().st_mtime for folder in folders for path in (folder / "commits").glob("v*.json")]
    times = [time for time in times if time >= plan.stat().st_mtime]
    return max(times) - min(times) if len(times) > 1 else None


def happened_of(plan: Mapping[str, Any], path: Path) -> Happened | None:
    """What a run has noted in its plan; BadInput where it is damaged."""
    noted = plan.get(_HAPPENED)
    if not isinstance(noted, dict):
        return None
    read = fields_of(noted, _Noted, str(path), f"{_HAPPENED}.", _REMEDY, BadInput)
    return Happened(read.seconds, read.num_bytes, read.peak_device_bytes)


def tell_planned(
    out: Path,
    work: Mapping[str, Any],
    made: Mapping[str, Any],
    seconds: float,
    folders: Iterable[Path],
    peak: float | None,
) -> None:
    """A line, where the plan of this `work` lies beside `out` and says `made`; what happened is noted in it.

    The run took so many `seconds`, wrote files of `folders`, and had `peak` bytes of its device.
    """
    found = saved_plan(work, plan_beside(out))
    if found is None:
        return
    path, plan = found
    if happened_of(plan, path) or any(plan[name] != value for name, value in made.items()):
        return
    happened = Happened(seconds, written_since(path, folders), peak)
    write_atomically(path, (json.dumps({**plan, _HAPPENED: asdict(happened)}, indent=1) + "\n").encode())
    rows = _rows(plan, happened, path)
    said = ", ".join(f"{name} {planned} (took {took}, {ratio} of it)" for name, planned, took, ratio in rows)
    print(f"{work['command']}: planned: {said}: {path}")


@dataclass(frozen=True)
class Comparison:
    """A plan beside what happened."""

    path: Path
    """Of the plan."""
    rows: list[tuple[str, str, str, str]]
    """(what, planned, happened, ratio of the second to the first), as a person reads them."""
    of_commits: bool
    """Whether the time is that from the first commit to the last, as nobody noted another."""


def beside(
    work: Mapping[str, Any], save: Path | None, out: Path, folders: Sequence[Path], seconds: float | None
) -> Comparison | None:
    """The saved plan of `work`, if there is one, beside what happened; BadInput where the plan is damaged.

    Where the run has noted nothing in its plan it took `seconds`, or as long as from the first commit in `folders` to
    the last, and wrote files of the first of them.
    """
    found = saved_plan(work, save, plan_beside(out))
    if found is None:
        return None
    path, plan = found
    happened, of_commits = happened_of(plan, path), False
    if happened is None:
        of_commits = seconds is None
        taken = commits_took(path, folders) if seconds is None else seconds
        happened = Happened(taken, written_since(path, folders[:1]))
    return Comparison(path, _rows(plan, happened, path), of_commits)


def print_happened(
    work: Mapping[str, Any], save: Path | None, out: Path, finished: str, folders: Sequence[Path], seconds: float | None
) -> bool:
    """A table of what `beside` says; False where there is no plan."""
    found = beside(work, save, out, folders, seconds)
    if found is None:
        return False
    commits = "; the time is that from the first commit to the last" if found.of_commits else ""
    print(f"{work['command']}: plan: {finished}; {found.path} beside what happened{commits}:")
    print_table(("what", "planned", "happened", "ratio"), found.rows, ("planned", "happened", "ratio"))
    return True


def _rows(plan: Mapping[str, Any], happened: Happened, path: Path) -> list[tuple[str, str, str, str]]:
    predicted = fields_of(dict(plan), _Predicted, str(path), "", _REMEDY, BadInput)
    # distill counts from where its trainer begins
    seconds = predicted.seconds - predicted.opening
    both = [
        ("time", seconds, happened.seconds, human_seconds),
        ("bytes", predicted.bytes, happened.num_bytes, human_bytes),
        ("device memory", predicted.peak_device_bytes, happened.peak_device_bytes, human_bytes),
    ]
    return [
        (name, show(planned), *(("-", "-") if took is None else (show(took), f"{took / max(planned, 1e-9):,.2f}")))
        for name, planned, took, show in both
    ]
