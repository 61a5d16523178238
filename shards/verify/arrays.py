"""Arrays: the zarr.json files of a target set, held against its manifest."""

from dataclasses import dataclass, field
from pathlib import Path

from shards.documents import Plan, TargetSetManifest
from shards.errors import Damaged
from shards.verify.findings import Findings
from shards.zarr_json import check_array, read_array
from shards.zarrs import ArraySpec, specs_of


@dataclass
class Arrays:
    """The arrays of a target set, as its manifest or, while it is half written, their own metadata say."""

    specs: dict[str, ArraySpec] = field(default_factory=dict)
    grown: set[str] = field(default_factory=set)
    """Those that announce more views than the manifest: a growth was cut off, which is no damage."""
    complete: bool = True
    """Whether each of them could be read."""


def read_arrays(
    folder: Path, manifest: TargetSetManifest | None, files: set[str], plan: Plan | None, findings: Findings
) -> Arrays:
    """The arrays of the target set in `folder`, which holds `files`; what is wrong with one goes into `findings`."""
    if plan is None:
        return Arrays(complete=False)
    arrays, paths = Arrays(), map(Path, files)
    committed_views = manifest.num_views if manifest else 0
    found = sorted(path.parent.name for path in paths if path.name == "zarr.json" and path.parent.name)
    for name in manifest.arrays if manifest else found:
        try:
            spec, num_views = read_array(folder, name, len(plan.keys), plan.shard_size)
            if manifest:
                spec = specs_of(manifest)[name]
                check_array(folder, spec, committed_views)
        except Damaged as error:
            findings.found(folder / name / "zarr.json", error)
            arrays.complete = False
            continue
        arrays.specs[name] = spec
        if manifest and num_views > committed_views:
            arrays.grown.add(name)
    if arrays.grown:
        findings.notes.append(f"{folder}: a growth by views was cut off; the same extract command finishes it")
    return arrays
