"""Documents: manifests, plans, commit records and array metadata, compared with each other and with the files there.

What they alone give away goes into the findings; what they say of files becomes a table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shards.cache import ListedViewSet
from shards.command.progress import counted
from shards.commit import TEMPORARY_PREFIX
from shards.documents import (
    Plan,
    TargetSetManifest,
    ViewSetManifest,
    read_commit,
    read_document,
)
from shards.errors import RESTORE, NewerVersion, one_line
from shards.identity import identity_hash
from shards.keys import sha256_of_keys
from shards.layout import (
    CALIBRATION,
    PLAN,
    TARGETSET_MANIFEST,
    VIEWSET_MANIFEST,
    Place,
    commit_path,
    inside,
    place_of,
)
from shards.listing import SAVED_FLAGS, DescribedSet, describe, finishing_command
from shards.records import Files
from shards.storage import files_beside
from shards.verify.files import Check, Entry, Table, announced_by_growth, check_object, view_checks, walk
from shards.verify.findings import Findings
from shards.zarr_json import check_array, read_array
from shards.zarrs import ArraySpec, specs_of

ChecksOf = Callable[[Place], dict[str, Check]]
"""The files of one shard, and what must be true of each."""


def tables_of(listed: ListedViewSet, findings: Findings) -> Iterator[tuple[Path, Table]]:
    """Each set's folder and its table."""
    viewset, targetsets = listed.folder, listed.listed_folders
    findings.num_sets += len(targetsets) + (listed.named is None)
    try:
        plan = _read_plan(viewset, findings)
        if listed.named is None:
            yield viewset, _viewset_table(viewset, plan, findings)
    except NewerVersion as error:  # nothing of it can be judged
        findings.newer.append(one_line(error))
        return
    for folder in targetsets:
        try:
            yield folder, _targetset_table(folder, plan, findings)
        except NewerVersion as error:
            findings.newer.append(one_line(error))


def _read_plan(viewset: Path, findings: Findings) -> Plan | None:
    plan = findings.read(viewset / PLAN, partial(Plan.read, viewset))
    if plan is not None:
        of_keys = {"keys": sha256_of_keys(plan.keys), "num_samples": len(plan.keys)}
        if plan.identity | of_keys != plan.identity:
            findings.add(viewset / PLAN, f"{viewset / PLAN}: its keys are not those of its identity; {RESTORE}")
    return plan


def _viewset_table(folder: Path, plan: Plan | None, findings: Findings) -> Table:
    viewset = _read_set(folder, ViewSetManifest, plan, findings)
    manifest = viewset.manifest
    if not viewset.whole:
        _unfinished(describe(folder), findings)
    elif isinstance(manifest, ViewSetManifest) and plan is not None:
        of_manifest = (manifest.identity, manifest.num_samples, manifest.num_shards, manifest.shard_size)
        if of_manifest != (plan.identity, len(plan.keys), plan.num_shards, plan.shard_size):
            findings.add(folder, f"{folder}: {VIEWSET_MANIFEST} and {PLAN} are of different view sets; {RESTORE}")
    if plan is not None:
        _check_name(folder, plan.identity, findings)
    for stray in (path for path in folder.glob("targets/*") if path.is_symlink() or not path.is_dir()):
        findings.add(stray, f"{stray}: is no target set: a foreign file; move it away")

    def checks(place: Place) -> dict[str, Check]:
        return {} if plan is None else view_checks(folder, plan, place)

    table = viewset.table(checks)
    beside = [PLAN] if plan is None else files_beside(plan)
    viewset.check_strangers(table.keys() | {*beside, SAVED_FLAGS, VIEWSET_MANIFEST})
    if isinstance(manifest, ViewSetManifest) and plan is not None:
        for relative in announced_by_growth(folder, plan, manifest.num_views, findings):
            table.pop(relative, None)  # it is of more views than when it was hashed
    return table


def _targetset_table(folder: Path, plan: Plan | None, findings: Findings) -> Table:
    targetset = _read_set(folder, TargetSetManifest, plan, findings)
    manifest = targetset.manifest
    if not targetset.whole:
        _unfinished(describe(folder, describe(folder.parent.parent)), findings)
    elif manifest is not None:
        _check_name(folder, manifest.identity, findings)
        of_manifest = (manifest.identity["viewset"], manifest.num_samples, manifest.shard_size)
        if plan is not None and of_manifest != (identity_hash(plan.identity), len(plan.keys), plan.shard_size):
            findings.add(
                folder, f"{folder}: was made from another view set than the one around it; python -m shards remove it"
            )
    specs, grown, complete = _read_arrays(targetset)

    def checks(place: Place) -> dict[str, Check]:
        return {
            spec.shard_path(*place): partial(
                check_object, spec=spec, num_rows=spec.num_rows(place[1]), folder=folder, place=place
            )
            for spec in specs
            if complete  # else none can say which files a shard has
        }

    table = targetset.table(checks)
    known = {SAVED_FLAGS, TARGETSET_MANIFEST, "zarr.json", *(f"{spec.name}/zarr.json" for spec in specs)}
    if not targetset.whole:
        known.add(CALIBRATION)  # no document has its hash yet
    targetset.check_strangers(table.keys() | known)
    for name in grown:
        table.pop(f"{name}/zarr.json", None)  # it announces more views than it did when it was hashed
    return table


@dataclass(frozen=True)
class _Set:
    """One set's own documents, as far as they can be read, and the files in its folder."""

    folder: Path
    manifest: ViewSetManifest | TargetSetManifest | None
    """None while it is half written, and where it is damaged."""
    whole: bool
    """Whether it has a manifest, damaged or not."""
    commits: dict[Place, Files]
    """Of each committed shard the records of its files."""
    files: set[str]
    plan: Plan | None
    findings: Findings

    @property
    def num_views(self) -> int:
        """Views that the manifest answers for."""
        return self.manifest.num_views if self.manifest else 0

    def table(self, checks: ChecksOf) -> Table:
        """The manifest's records, and those of commits beyond it (half written, or a growth); stale ones are damage."""
        of_manifest = self.manifest.files if self.manifest else {}
        records, checked = dict(of_manifest), dict[str, Check]()
        num_shards = self.plan.num_shards if self.plan is not None else 0
        for place, files in self.commits.items():
            path = self.folder / commit_path(*place)
            if self.plan is not None and place[1] >= num_shards:
                self.findings.add(path, f"{path}: is of no shard of the plan: a foreign file; move it away")
                continue
            if self.plan is not None:
                checked |= (of_shard := checks(place))
                if of_shard and files.keys() != of_shard.keys():
                    self.findings.add(path, f"{path}: names other files than those of its shard; {RESTORE}")
            for relative, record in files.items():
                if place[0] >= self.num_views:
                    records.setdefault(relative, record)
                elif of_manifest.get(relative) != record:
                    stale = self.folder / relative
                    self.findings.add(stale, f"{stale}: is stale: its commit record and the manifest differ; {RESTORE}")
        if self.num_views * num_shards > len(of_manifest):  # views that it only claims are not counted through
            self.findings.add(self.folder, f"{self.folder}: its manifest lists fewer files than shards; {RESTORE}")
            return {relative: Entry(record, checked.get(relative)) for relative, record in records.items()}
        for place in ((view, shard) for view in range(self.num_views) for shard in range(num_shards)):
            for relative in {commit_path(*place), *checks(place)} - of_manifest.keys():
                path = self.folder / relative
                self.findings.add(path, f"{path}: is in no manifest, and should be; {RESTORE}")
        return {relative: Entry(record, checked.get(relative)) for relative, record in records.items()}

    def check_strangers(self, known: set[str]) -> None:
        """Every file in the folder is known, left by a killed extract (a note), or foreign (damage)."""
        uncommitted, notes = 0, self.findings.notes
        for relative in sorted(self.files - known):
            place, path = place_of(relative), self.folder / relative
            if place is not None and place[0] >= self.num_views:
                uncommitted += relative != commit_path(*place)
            elif path.name.startswith(TEMPORARY_PREFIX):
                notes.append(f"{path}: left by a killed extract; the next one removes it")
            elif "/" not in relative and (not self.whole or PLAN in known):
                notes.append(f"{path}: is no part of the cache")
            else:
                self.findings.add(path, f"{path}: is in no manifest: a foreign file; move it away")
        if uncommitted:
            files = counted(uncommitted, "file")
            notes.append(f"{self.folder}: {files} of uncommitted shards; extract makes them again")
        further = sum(view >= self.num_views for view, _ in self.commits)
        if self.manifest and further:
            beyond = f"{counted(further, 'shard')} beyond its {counted(self.num_views, 'view')}"
            notes.append(
                f"{self.folder}: {beyond}, left by a growth that was cut off; the same extract command finishes it"
            )


def _read_set(
    folder: Path, kind: type[ViewSetManifest] | type[TargetSetManifest], plan: Plan | None, findings: Findings
) -> _Set:
    path = folder / f"{kind.kind}.json"
    whole = path.is_file()
    manifest = findings.read(path, lambda: read_document(inside(folder, path.name), kind)) if whole else None
    files = set(walk(folder, findings, skip="targets" if kind is ViewSetManifest else ""))
    commits = {}
    for relative in files:
        place = place_of(relative)
        if place is not None and relative == commit_path(*place):
            record = findings.read(folder / relative, partial(read_commit, folder, *place))
            if record is not None:
                commits[place] = record.files
    return _Set(folder, manifest, whole, commits, files, plan, findings)


def _read_arrays(targetset: _Set) -> tuple[list[ArraySpec], list[str], bool]:
    """The arrays of a target set, those that announce more views than its manifest, and whether all could be read."""
    folder, plan, manifest, findings = targetset.folder, targetset.plan, targetset.manifest, targetset.findings
    if plan is None:
        return [], [], False

    def read(name: str) -> tuple[ArraySpec, int]:
        if not isinstance(manifest, TargetSetManifest):
            return read_array(folder, name, len(plan.keys), plan.shard_size)
        spec = specs_of(manifest)[name]
        return spec, check_array(folder, spec, manifest.num_views)

    stored = sorted(relative.removesuffix("/zarr.json") for relative in targetset.files if "/zarr.json" in relative)
    names = list(manifest.arrays) if isinstance(manifest, TargetSetManifest) else stored
    arrays = [findings.read(folder / name / "zarr.json", partial(read, name)) for name in names]
    readable = [array for array in arrays if array is not None]
    grown = [spec.name for spec, num_views in readable if manifest and num_views > manifest.num_views]
    if grown:
        findings.notes.append(f"{folder}: a growth by views was cut off; the same extract command finishes it")
    return [spec for spec, _ in readable], grown, len(readable) == len(arrays)


def _check_name(folder: Path, identity: dict[str, Any], findings: Findings) -> None:
    """The folder is called as its identity says: people and flags choose a set by its name."""
    ending = identity_hash(identity)[:8]
    if not folder.name.endswith(ending):
        findings.add(folder, f"{folder}: renamed or swapped: its identity is {ending}, which its name should end in")


def _unfinished(described: DescribedSet, findings: Findings) -> None:
    if described.damage:
        findings.add(described.folder, described.damage)
    folder = described.folder
    findings.unfinished.append(f"{folder}: {described.state}; {finishing_command(folder)} finishes it")
