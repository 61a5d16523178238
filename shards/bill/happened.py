"""Happened: a saved plan beside what the run then took."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.bill.arithmetic import human_seconds
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.commit import write_atomically
from shards.errors import BadInput
from shards.sealed import read_object

_HAPPENED = "happened"


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


def happened_of(plan: Mapping[str, Any]) -> Happened | None:
    """What a run has noted in its plan."""
    noted = plan.get(_HAPPENED)
    return Happened(**noted) if isinstance(noted, dict) else None


def note_happened(path: Path, plan: Mapping[str, Any], happened: Happened) -> str:
    """The plan at `path` has what happened beside it; that in a line."""
    write_atomically(path, (json.dumps({**plan, _HAPPENED: asdict(happened)}, indent=1) + "\n").encode())
    return ", ".join(
        f"{name} {planned} (took {took}, {ratio} of it)" for name, planned, took, ratio in _rows(plan, happened)
    )


def print_compared(plan: Mapping[str, Any], happened: Happened) -> None:
    """A table: planned, what happened, and the ratio of the second to the first."""
    print_table(("what", "planned", "happened", "ratio"), _rows(plan, happened), ("planned", "happened", "ratio"))


def _rows(plan: Mapping[str, Any], happened: Happened) -> list[tuple[str, str, str, str]]:
    # distill counts from where its trainer begins
    seconds = plan["seconds"] - plan.get("opening", 0)
    both = [
        ("time", seconds, happened.seconds, human_seconds),
        ("bytes", plan["bytes"], happened.num_bytes, human_bytes),
    ]
    both.append(("device memory", plan["peak_device_bytes"], happened.peak_device_bytes, human_bytes))
    return [
        (name, show(planned), *(("-", "-") if took is None else (show(took), f"{took / max(planned, 1e-9):,.2f}")))
        for name, planned, took, show in both
    ]
