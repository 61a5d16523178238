"""What must be true of a view set and of a target set: by their manifests, commit records, plan and array metadata."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shards.errors import RESTORE, Damaged
from shards.identity import identity_hash, sha256_of
from shards.layout import CALIBRATION, PLAN, TARGETSET_MANIFEST, VIEWSET_MANIFEST, Plan, tar_path
from shards.listing import SAVED_FLAGS, Held, describe_targetset, describe_viewset, finishing_command
from shards.selection import Selection
from shards.verify_contents import check_object, check_tar
from shards.verify_folder import Findings, Place, SetFolder, check_files, merged_records, place_of, read_folder
from shards.zarr_json import check_array, read_array
from shards.zarrs import ArraySpec, specs_of


@dataclass(frozen=True)
class FileRecord:
    """A file that must be there: its size and SHA-256, and what else must be true of it (raises Damaged)."""

    folder: Path
    relative: str
    held: dict[str, Any]
    content: Callable[[Path], None] | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.relative


def records_of(selection: Selection, findings: Findings) -> Iterator[FileRecord]:
    """Every file that must be there; what the documents alone give away has gone into `findings`."""
    plan = _read_plan(selection.viewset, findings)
    if selection.named is None:
        findings.num_sets += 1
        yield from _viewset_records(selection.viewset, plan, findings)
    for folder in selection.targetsets:
        findings.num_sets += 1
        yield from _targetset_records(folder, plan, findings)


def _read_plan(viewset: Path, findings: Findings) -> Plan | None:
    try:
        plan = Plan.read(viewset)
    except Damaged as error:
        findings.found(viewset / PLAN, error)
        return None
    held = {"keys": sha256_of("\n".join(plan.keys).encode()), "num_samples": len(plan.keys)}
    if any(plan.identity[name] != value for name, value in held.items()):
        findings.found(viewset / PLAN, f"{viewset / PLAN}: its keys are not those of its identity; {RESTORE}")
    return plan


def _viewset_records(folder: Path, plan: Plan | None, findings: Findings) -> Iterator[FileRecord]:
    held = read_folder(folder, VIEWSET_MANIFEST, "viewset", findings)
    if held.manifest is None:
        _unfinished(describe_viewset(folder), findings)
    elif held.manifest and plan is not None:
        told = tuple(held.manifest[name] for name in ("identity", "num_samples", "num_shards", "shard_size"))
        if told != (plan.identity, len(plan.keys), plan.num_shards, plan.shard_size):
            findings.found(folder, f"{folder}: {VIEWSET_MANIFEST} and {PLAN} are of different view sets; {RESTORE}")
    if plan is not None:
        _check_name(folder, plan.identity, findings)
    for stray in (path for path in folder.glob("targets/*") if path.is_symlink() or not path.is_dir()):
        findings.found(stray, f"{stray}: is no target set: a foreign file; move it away")
    known = {PLAN, SAVED_FLAGS, VIEWSET_MANIFEST}
    records = merged_records(held, plan, lambda place: [tar_path(*place)], findings)
    check_files(held, records.keys() | known, findings)
    for relative, record in records.items():
        place, content = place_of(relative), None
        if plan is not None and place in held.commits and relative.endswith(".tar"):
            keys = [plan.keys[row] for row in plan.rows(place[1])]
            content = partial(check_tar, commit=held.commits[place], keys=keys)
        yield FileRecord(folder, relative, record, content)


def _targetset_records(folder: Path, plan: Plan | None, findings: Findings) -> Iterator[FileRecord]:
    held = read_folder(folder, TARGETSET_MANIFEST, "targetset", findings)
    manifest = held.manifest
    if manifest is None:
        _unfinished(describe_targetset(folder, describe_viewset(folder.parent.parent)), findings)
    elif manifest:
        _check_name(folder, manifest["identity"], findings)
        told = (manifest["identity"]["viewset"], manifest["num_samples"], manifest["shard_size"])
        if plan is not None and told != (identity_hash(plan.identity), len(plan.keys), plan.shard_size):
            findings.found(
                folder, f"{folder}: was made from another view set than the one around it; python -m shards remove it"
            )
    arrays = _read_arrays(held, plan, findings)
    known = {SAVED_FLAGS, TARGETSET_MANIFEST, "zarr.json", *(f"{name}/zarr.json" for name in arrays.specs)}
    if manifest is None:
        known.add(CALIBRATION)  # no document has its hash yet
    records = merged_records(held, plan, arrays.shard_files, findings)
    check_files(held, records.keys() | known, findings)
    for relative, record in records.items():
        name, place = relative.partition("/")[0], place_of(relative)
        spec, content = arrays.specs.get(name), None
        if relative == f"{name}/zarr.json" and name in arrays.grown:
            continue
        if spec is not None and place is not None:
            content = partial(check_object, spec=spec, num_rows=spec.num_rows(place[1]))
        yield FileRecord(folder, relative, record, content)


@dataclass
class _Arrays:
    """The arrays of a target set, as its manifest or, while it is half written, their own metadata say."""

    specs: dict[str, ArraySpec] = field(default_factory=dict)
    grown: set[str] = field(default_factory=set)
    """Those that announce more views than the manifest: a growth was cut off, which is no damage."""
    complete: bool = True

    def shard_files(self, place: Place) -> list[str]:
        """The objects of one shard; none where not all arrays are known."""
        return [spec.shard_path(*place) for spec in self.specs.values()] if self.complete else []


def _read_arrays(held: SetFolder, plan: Plan | None, findings: Findings) -> _Arrays:
    if plan is None:
        return _Arrays(complete=False)
    arrays = _Arrays()
    found = sorted(path.parent.name for path in map(Path, held.files) if path.name == "zarr.json" and path.parent.name)
    for name in held.manifest["arrays"] if held.manifest else found:
        try:
            spec, num_views = read_array(held.folder, name, len(plan.keys), plan.shard_size)
            if held.manifest:
                spec = specs_of(held.manifest)[name]
                check_array(held.folder, spec, held.num_views)
        except Damaged as error:
            findings.found(held.folder / name / "zarr.json", error)
            arrays.complete = False
            continue
        arrays.specs[name] = spec
        if held.manifest and num_views > held.num_views:
            arrays.grown.add(name)
    if arrays.grown:
        findings.notes.append(f"{held.folder}: a growth by views was cut off; the same extract command finishes it")
    return arrays


def _check_name(folder: Path, identity: dict[str, Any], findings: Findings) -> None:
    """The folder is called as its identity says: people and flags choose a set by its name."""
    ending = identity_hash(identity)[:8]
    if not folder.name.endswith(ending):
        findings.found(folder, f"{folder}: renamed or swapped: its identity is {ending}, which its name should end in")


def _unfinished(held: Held, findings: Findings) -> None:
    if held.damage:
        findings.found(held.folder, held.damage)
    findings.unfinished.append(f"{held.folder}: {held.state}; {finishing_command(held.folder)} finishes it")
