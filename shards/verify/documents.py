"""Documents: manifests, plans, commit records and array metadata, held against each other and the files that lie there.

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
from shards.documents import Files, Plan, SealedKind, TargetSetManifest, ViewSetManifest, read_commit, read_document
from shards.errors import RESTORE, Damaged, NewerVersion, one_line
from shards.identity import identity_hash
from shards.layout import (
    CALIBRATION,
    PLAN,
    TARGETSET_MANIFEST,
    VIEWSET_MANIFEST,
    commit_path,
    inside,
    tar_path,
    targetset_is_whole,
    viewset_is_whole,
)
from shards.listing import SAVED_FLAGS, Held, describe_targetset, describe_viewset, finishing_command
from shards.verify.arrays import read_arrays
from shards.verify.files import Check, Entry, Place, Table, check_object, check_tar, place_of, walk
from shards.verify.findings import Findings

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
    try:
        plan = Plan.read(viewset)
    except NewerVersion:
        raise
    except Damaged as error:
        findings.found(viewset / PLAN, error)
        return None
    told = {"keys": sha256_of_keys(plan.keys), "num_samples": len(plan.keys)}
    if any(plan.identity[name] != value for name, value in told.items()):
        findings.found(viewset / PLAN, f"{viewset / PLAN}: its keys are not those of its identity; {RESTORE}")
    return plan


def _viewset_table(folder: Path, plan: Plan | None, findings: Findings) -> Table:
    whole = viewset_is_whole(folder)
    manifest = _read_manifest(folder, VIEWSET_MANIFEST, ViewSetManifest, findings) if whole else None
    documents = _read_documents(folder, manifest, whole, findings, skip="targets")
    if not whole:
        _unfinished(describe_viewset(folder), findings)
    elif manifest is not None and plan is not None:
        told = (manifest.identity, manifest.num_samples, manifest.num_shards, manifest.shard_size)
        if told != (plan.identity, len(plan.keys), plan.num_shards, plan.shard_size):
            findings.found(folder, f"{folder}: {VIEWSET_MANIFEST} and {PLAN} are of different view sets; {RESTORE}")
    if plan is not None:
        _check_name(folder, plan.identity, findings)
    for stray in (path for path in folder.glob("targets/*") if path.is_symlink() or not path.is_dir()):
        findings.found(stray, f"{stray}: is no target set: a foreign file; move it away")

    def checks(place: Place) -> dict[str, Check]:
        keys = [plan.keys[row] for row in plan.rows(place[1])] if plan is not None else []
        return {tar_path(*place): partial(check_tar, folder=folder, place=place, keys=keys)}

    table = _table(documents, plan, checks, findings)
    _check_strangers(documents, table.keys() | {PLAN, SAVED_FLAGS, VIEWSET_MANIFEST}, findings)
    return table


def _targetset_table(folder: Path, plan: Plan | None, findings: Findings) -> Table:
    whole = targetset_is_whole(folder)
    manifest = _read_manifest(folder, TARGETSET_MANIFEST, TargetSetManifest, findings) if whole else None
    documents = _read_documents(folder, manifest, whole, findings)
    if not whole:
        _unfinished(describe_targetset(folder, describe_viewset(folder.parent.parent)), findings)
    elif manifest is not None:
        _check_name(folder, manifest.identity, findings)
        told = (manifest.identity["viewset"], manifest.num_samples, manifest.shard_size)
        if plan is not None and told != (identity_hash(plan.identity), len(plan.keys), plan.shard_size):
            findings.found(
                folder, f"{folder}: was made from another view set than the one around it; python -m shards remove it"
            )
    arrays = read_arrays(folder, manifest, documents.files, plan, findings)

    def checks(place: Place) -> dict[str, Check]:
        return {
            spec.shard_path(*place): partial(check_object, spec=spec, num_rows=spec.num_rows(place[1]))
            for spec in arrays.specs.values()
            if arrays.complete
        }

    table = _table(documents, plan, checks, findings)
    known = {SAVED_FLAGS, TARGETSET_MANIFEST, "zarr.json", *(f"{name}/zarr.json" for name in arrays.specs)}
    if not whole:
        known.add(CALIBRATION)  # no document has its hash yet
    _check_strangers(documents, table.keys() | known, findings)
    for name in arrays.grown:
        table.pop(f"{name}/zarr.json", None)  # it announces more views than it did when it was hashed
    return table


@dataclass(frozen=True)
class _Documents:
    """One set's own documents, as far as they can be read, and the files in its folder."""

    folder: Path
    manifest: ViewSetManifest | TargetSetManifest | None
    """None while it is half written, and where it is damaged."""
    whole: bool
    """Whether it has a manifest, damaged or not."""
    commits: dict[Place, Files]
    """Of each committed shard the records of its files."""
    files: set[str]

    @property
    def num_views(self) -> int:
        """Views that the manifest answers for."""
        return self.manifest.num_views if self.manifest else 0


def _read_manifest(folder: Path, name: str, kind: type[SealedKind], findings: Findings) -> SealedKind | None:
    try:
        return read_document(inside(folder, name), kind)
    except NewerVersion:
        raise
    except Damaged as error:
        findings.found(folder / name, error)
        return None


def _read_documents(
    folder: Path,
    manifest: ViewSetManifest | TargetSetManifest | None,
    whole: bool,
    findings: Findings,
    skip: str = "",
) -> _Documents:
    files = set(walk(folder, findings, skip))
    commits = {}
    for relative in files:
        place = place_of(relative)
        if place is not None and relative == commit_path(*place):
            try:
                record = read_commit(folder, *place)
                commits[place] = record.files if record else {}
            except Damaged as error:
                findings.found(folder / relative, error)
    return _Documents(folder, manifest, whole, commits, files)


def _table(documents: _Documents, plan: Plan | None, checks: ChecksOf, findings: Findings) -> Table:
    """The manifest's records, and those of commits beyond it (half written, or a growth); stale ones are found."""
    told = documents.manifest.files if documents.manifest else {}
    records, checked = dict(told), dict[str, Check]()
    num_shards = plan.num_shards if plan is not None else 0
    for place, files in documents.commits.items():
        path = documents.folder / commit_path(*place)
        if plan is not None and place[1] >= num_shards:
            findings.found(path, f"{path}: is of no shard of the plan: a foreign file; move it away")
            continue
        if plan is not None:
            checked |= (of_shard := checks(place))
            if of_shard and files.keys() != of_shard.keys():
                findings.found(path, f"{path}: names other files than those of its shard; {RESTORE}")
        for relative, record in files.items():
            if place[0] >= documents.num_views:
                records.setdefault(relative, record)
            elif told.get(relative) != record:
                stale = documents.folder / relative
                findings.found(stale, f"{stale}: is stale: its commit record and the manifest differ; {RESTORE}")
    for place in ((view, shard) for view in range(documents.num_views) for shard in range(num_shards)):
        for relative in {commit_path(*place), *checks(place)} - told.keys():
            path = documents.folder / relative
            findings.found(path, f"{path}: is in no manifest, and should be; {RESTORE}")
    return {relative: Entry(record, checked.get(relative)) for relative, record in records.items()}


def _check_strangers(documents: _Documents, known: set[str], findings: Findings) -> None:
    """Every file in the folder is known, left by a killed extract (a note), or foreign (damage)."""
    uncommitted, folder = 0, documents.folder
    for relative in sorted(documents.files - known):
        place, path = place_of(relative), folder / relative
        if place is not None and place[0] >= documents.num_views:
            uncommitted += relative != commit_path(*place)
        elif path.name.startswith(TEMPORARY_PREFIX):
            findings.notes.append(f"{path}: left by a killed extract; the next one removes it")
        elif "/" not in relative and (not documents.whole or PLAN in known):
            findings.notes.append(f"{path}: is no part of the cache")
        else:
            findings.found(path, f"{path}: is in no manifest: a foreign file; move it away")
    if uncommitted:
        files = counted(uncommitted, "file")
        findings.notes.append(f"{folder}: {files} of uncommitted shards; extract makes them again")
    further = sum(view >= documents.num_views for view, _ in documents.commits)
    if documents.manifest and further:
        beyond = f"{counted(further, 'shard')} beyond its {counted(documents.num_views, 'view')}"
        findings.notes.append(
            f"{folder}: {beyond}, left by a growth that was cut off; the same extract command finishes it"
        )


def _check_name(folder: Path, identity: dict[str, Any], findings: Findings) -> None:
    """The folder is called as its identity says: people and flags choose a set by its name."""
    ending = identity_hash(identity)[:8]
    if not folder.name.endswith(ending):
        findings.found(folder, f"{folder}: renamed or swapped: its identity is {ending}, which its name should end in")


def _unfinished(held: Held, findings: Findings) -> None:
    if held.damage:
        findings.found(held.folder, held.damage)
    findings.unfinished.append(f"{held.folder}: {held.state}; {finishing_command(held.folder)} finishes it")
