"""One set's folder: what its documents say must lie there, and what does; for view sets and target sets alike."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.command.progress import counted
from shards.commit import TEMPORARY_PREFIX
from shards.errors import RESTORE, Damaged, one_line
from shards.identity import unsealed
from shards.layout import PLAN, Plan, commit_path, inside, read_commit

Place = tuple[int, int]
"""View and shard."""
_SHARD_FILE = re.compile(r"(?:views/v(\d+)-(\d+)\.tar|commits/v(\d+)-(\d+)\.json|[^/]+/c/(\d+)/(\d+)(?:/0)*)")


@dataclass
class Findings:
    """What verify found, a line each: damage by path, sets that are half written, and what is odd but harmless."""

    damage: dict[Path, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_sets: int = 0
    num_files: int = 0
    num_bytes: int = 0
    _lines: set[str] = field(default_factory=set)

    def found(self, path: Path, damage: str | Damaged) -> None:
        """The file or folder at `path` is damaged; of several reasons the first is kept."""
        line = damage if isinstance(damage, str) else one_line(damage)
        if line not in self._lines and path not in self.damage:
            self.damage[path] = line
            self._lines.add(line)


@dataclass(frozen=True)
class SetFolder:
    """One set's own documents, as far as they can be read, and the files in its folder."""

    folder: Path
    manifest: dict[str, Any] | None
    """None while it is half written; empty where it is damaged."""
    commits: dict[Place, dict[str, Any]]
    files: set[str]

    @property
    def num_views(self) -> int:
        """Views that the manifest answers for."""
        return self.manifest["num_views"] if self.manifest else 0


def read_folder(folder: Path, name: str, kind: str, findings: Findings) -> SetFolder:
    """The set in `folder`, whose manifest is called `name`; what cannot be read has gone into `findings`."""
    manifest: dict[str, Any] | None = None
    files = set(_walk(folder, findings, skip="targets" if kind == "viewset" else ""))
    if name in files:
        try:
            manifest = unsealed(inside(folder, name), kind)
        except Damaged as error:
            findings.found(folder / name, error)
            manifest = {}
    commits = {}
    for relative in files:
        place = place_of(relative)
        if place is not None and relative == commit_path(*place):
            try:
                commits[place] = read_commit(folder, *place) or {}
            except Damaged as error:
                findings.found(folder / relative, error)
    return SetFolder(folder, manifest, commits, files)


def _walk(folder: Path, findings: Findings, skip: str) -> Iterator[str]:
    """The plain files under `folder`, relative to it, without following links, which are damage."""

    def unreadable(error: OSError) -> None:
        path = error.filename
        findings.found(Path(path), f"{path}: cannot be read ({error.strerror}); mend its permissions")

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        if Path(parent) == folder and skip in folders and not (folder / skip).is_symlink():
            folders.remove(skip)
        for name in (*folders, *files):
            relative = (Path(parent) / name).relative_to(folder).as_posix()
            try:
                if inside(folder, relative).is_file():
                    yield relative
            except Damaged as error:
                findings.found(folder / relative, error)


def merged_records(
    held: SetFolder, plan: Plan | None, shard_files: Callable[[Place], list[str]], findings: Findings
) -> dict[str, dict[str, Any]]:
    """The manifest's records, and those of commits beyond it (half written, or a growth); stale ones are found."""
    told: dict[str, Any] = held.manifest["files"] if held.manifest else {}
    records = dict(told)
    num_shards = plan.num_shards if plan is not None else 0
    for place, commit in held.commits.items():
        path = held.folder / commit_path(*place)
        if plan is not None and place[1] >= num_shards:
            findings.found(path, f"{path}: is of no shard of the plan: a foreign file; move it away")
            continue
        if shard_files(place) and set(commit["files"]) != set(shard_files(place)):
            findings.found(path, f"{path}: names other files than those of its shard; {RESTORE}")
        for relative, record in commit["files"].items():
            if place[0] >= held.num_views:
                records.setdefault(relative, record)
            elif told.get(relative) != record:
                stale = held.folder / relative
                findings.found(stale, f"{stale}: is stale: its commit record and the manifest differ; {RESTORE}")
    for place in ((view, shard) for view in range(held.num_views) for shard in range(num_shards)):
        for relative in {commit_path(*place), *shard_files(place)} - told.keys():
            path = held.folder / relative
            findings.found(path, f"{path}: is in no manifest, and should be; {RESTORE}")
    return records


def check_files(held: SetFolder, known: set[str], findings: Findings) -> None:
    """Every file in the folder is known, left by a killed extract (a note), or foreign (damage)."""
    uncommitted = 0
    for relative in sorted(held.files - known):
        place, path = place_of(relative), held.folder / relative
        if place is not None and place[0] >= held.num_views:
            uncommitted += relative != commit_path(*place)
        elif path.name.startswith(TEMPORARY_PREFIX):
            findings.notes.append(f"{path}: left by a killed extract; the next one removes it")
        elif "/" not in relative and (held.manifest is None or PLAN in known):
            findings.notes.append(f"{path}: is no part of the cache")
        else:
            findings.found(path, f"{path}: is in no manifest: a foreign file; move it away")
    if uncommitted:
        findings.notes.append(
            f"{held.folder}: {counted(uncommitted, 'file')} of uncommitted shards; extract makes them again"
        )
    further = sum(place[0] >= held.num_views for place in held.commits)
    if held.manifest and further:
        beyond = f"{counted(further, 'shard')} beyond its {counted(held.num_views, 'view')}"
        findings.notes.append(
            f"{held.folder}: {beyond}, left by a growth that was cut off; the same extract command finishes it"
        )


def place_of(relative: str) -> Place | None:
    """The view and shard of a file, by its name; None for a file of no shard."""
    match = _SHARD_FILE.fullmatch(relative)
    if match is None:
        return None
    view, shard = (int(group) for group in match.groups() if group is not None)
    return view, shard
