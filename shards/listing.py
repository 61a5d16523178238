"""Listing: what a cache holds, read from its documents alone, as a person wants to see it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.cache import ListedViewSet
from shards.command.progress import counted, human_bytes
from shards.documents import (
    Plan,
    TargetSetManifest,
    ViewSetManifest,
    read_targetset_manifest,
    read_viewset_manifest,
)
from shards.errors import RESTORE, Damaged, NewerVersion
from shards.layout import PLAN, TARGETSET_MANIFEST, VIEWSET_MANIFEST, inside
from shards.mirror import out_of
from shards.plain_yaml import read_yaml
from shards.zarrs import specs_of

SAVED_FLAGS = "extract.yaml"
MAX_FLAGS_BYTES = 1 << 20
Manifest = ViewSetManifest | TargetSetManifest
COLUMNS = ("name", "samples", "views", "size", "state")


@dataclass(frozen=True)
class DescribedSet:
    """One view set or target set as its own documents describe it."""

    folder: Path
    num_bytes: int
    num_committed: int
    """Shards, over all views, as `num_shards`."""
    num_shards: int = 0
    num_samples: int | None = None
    num_views: int = 0
    manifest: Manifest | None = None
    """None while it is half written, or where its manifest is damaged."""
    damage: str | None = None
    newer: bool = False
    """Whether a later version of teacher-shards wrote it, which is all that `damage` says then."""

    @property
    def state(self) -> str:
        """Whole, damaged, half written, or whole with a growth that was cut off."""
        if self.newer:
            return "written by a newer version of teacher-shards"
        if self.damage:
            return "damaged: python -m shards verify says where"
        if self.manifest is None:
            return f"half written, {self.num_committed} of {counted(self.num_shards, 'shard')}"
        further = self.num_committed - self.num_shards
        return f"whole, and {counted(further, 'shard')} of further views" if further > 0 else "whole"

    def row(self, indent: str = "") -> tuple[str, ...]:
        """The cells of its line in a list, as COLUMNS names them."""
        samples = "?" if self.num_samples is None else f"{self.num_samples:,}"
        return indent + self.folder.name, samples, f"{self.num_views}", human_bytes(self.num_bytes), self.state


def saved_flags(folder: Path) -> dict[str, Any]:
    """The flags that the set in `folder` was extracted with, plain values each; Damaged when they cannot be read."""
    path = inside(folder, SAVED_FLAGS)
    try:
        flags = read_yaml(path.read_bytes()) if path.stat().st_size <= MAX_FLAGS_BYTES else None
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: cannot be read ({error}); {RESTORE}") from None
    if not isinstance(flags, dict):
        raise Damaged(f"{path}: holds no flags; {RESTORE}")
    return {str(name): value for name, value in flags.items() if not isinstance(value, dict | list | set | tuple)}


def describe(folder: Path, viewset: DescribedSet | None = None) -> DescribedSet:
    """The view set in `folder`, without its target sets; or the target set in `folder`, which belongs to `viewset`."""
    committed = list((folder / "commits").glob("v[0-9]*-[0-9]*.json"))
    manifest_path = folder / (VIEWSET_MANIFEST if viewset is None else TARGETSET_MANIFEST)
    try:
        if manifest_path.is_file():
            manifest = read_viewset_manifest(folder) if viewset is None else read_targetset_manifest(folder)
            size = sum(record.size for record in manifest.files.values()) + manifest_path.stat().st_size
            num_shards = -(-manifest.num_samples // manifest.shard_size) * manifest.num_views
            return DescribedSet(
                folder, size, len(committed), num_shards, manifest.num_samples, manifest.num_views, manifest
            )
        num_samples: int | None
        if viewset is None:
            plan = Plan.read(folder)
            num_samples, shards_a_view, num_views = len(plan.keys), plan.num_shards, 1
        else:
            num_samples, num_views = viewset.num_samples, viewset.num_views
            shards_a_view = viewset.num_shards // max(1, num_views)
        flags = saved_flags(folder) if (folder / SAVED_FLAGS).exists() else {}
        num_views = flags["views"] if isinstance(flags.get("views"), int) else num_views
        num_views = max([num_views, *(int(path.name[1:].partition("-")[0]) + 1 for path in committed)])
        num_shards = num_views * shards_a_view
        return DescribedSet(folder, _bytes_on_disk(folder), len(committed), num_shards, num_samples, num_views)
    except Damaged as error:
        newer = isinstance(error, NewerVersion)
        return DescribedSet(folder, _bytes_on_disk(folder), len(committed), damage=str(error), newer=newer)


def _bytes_on_disk(folder: Path) -> int:
    """Bytes of a set's own files, without those of the target sets of a view set."""
    own = (path for path in folder.rglob("*") if "targets" not in path.relative_to(folder).parts[:1])
    return sum(path.lstat().st_size for path in own if path.is_file())


def list_rows(listed: list[ListedViewSet]) -> Iterator[tuple[str, ...]]:
    """One line a view set and, indented beneath it, a target set."""
    for each in listed:
        viewset = describe(each.folder)
        yield viewset.row()
        for folder in each.listed_folders:
            yield describe(folder, viewset).row("  ")


def viewset_facts(described: DescribedSet) -> Iterator[tuple[str, str]]:
    """Everything a person wants to know of a view set: (name, value) lines."""
    yield from _common_facts(described)
    if not (described.folder / PLAN).exists() or described.damage:
        return
    plan = Plan.read(described.folder)
    yield "classes", "none: the samples have no labels" if plan.class_names is None else f"{len(plan.class_names):,}"
    yield "shards", f"{plan.num_shards:,} a view, of {counted(plan.shard_size, 'sample')}"
    if described.manifest is not None:
        yield "bytes a view", f"{described.num_bytes / (len(plan.keys) * described.num_views):,.0f} of each sample"
    yield from _flat(plan.identity, "identity")
    yield from _flat(plan.request, "request")
    if isinstance(described.manifest, ViewSetManifest):
        skipped = described.manifest.skipped
        yield "skipped", f"{len(skipped):,}" + (f": {', '.join(skipped[:8])}" if skipped else "")
    yield "extract from it", f"python -m extract --teacher NAME --out {out_of(described.folder.parent)}"


def targetset_facts(described: DescribedSet) -> Iterator[tuple[str, str]]:
    """Everything a person wants to know of a target set: (name, value) lines."""
    yield from _common_facts(described)
    if not isinstance(described.manifest, TargetSetManifest):
        return
    manifest = described.manifest
    specs = specs_of(manifest).values()
    rows = manifest.num_samples * manifest.num_views
    stored = sum(record.size for name, record in manifest.files.items() if "/c/" in name)
    kept = "" if manifest.keep_tokens is None else f", {manifest.keep_tokens} of {manifest.row_shape[0]} tokens kept"
    yield "teacher", manifest.teacher
    yield "target", f"{manifest.target} {tuple(manifest.row_shape)}{kept}"
    yield "codec", f"{manifest.codec}, {counted(sum(spec.row_bytes for spec in specs), 'byte')} a sample"
    yield "stored", f"{stored / rows:,.1f} bytes a sample, with checksums, indices and the padding of last chunks"
    yield "codec error", stated_error(manifest)
    if manifest.devices:
        yield "computed on", ", ".join(manifest.devices)
    yield "arrays", ", ".join(f"{spec.name} {spec.dtype}{spec.row_shape}" for spec in specs)
    yield from _flat(manifest.identity, "identity")
    viewset = described.folder.parent.parent
    place = f"{out_of(viewset.parent)}/{viewset.name}"
    yield "distil from it", f"python -m distill --shards {place} --targets {described.folder.name}"


def shown_errors(manifest: TargetSetManifest) -> str:
    """What the codec loses, each error with its name."""
    return ", ".join(f"{name} {value:g}" for name, value in manifest.codec_error.items())


def stated_error(manifest: TargetSetManifest) -> str:
    """What the codec loses and of which samples; empty where no sample told it."""
    return f"{shown_errors(manifest)}, on {measured_on(manifest)}" if manifest.codec_error else ""


def measured_on(manifest: TargetSetManifest) -> str:
    """The samples that the codec's errors are of. Of those that trained a codebook it loses less than of others."""
    if manifest.unseen is not None:
        return f"{counted(manifest.unseen, 'sample')} that trained no codebook"
    return f"the first samples{', which trained its codebooks' if has_codebooks(manifest) else ''}"


def has_codebooks(manifest: TargetSetManifest) -> bool:
    """Whether the codec trained codebooks on some of the rows."""
    return "centroids" in manifest.identity["codec"]


def _common_facts(described: DescribedSet) -> Iterator[tuple[str, str]]:
    yield "folder", str(described.folder)
    yield (
        "state",
        f"damaged: {described.damage}"
        if described.damage and not described.newer
        else described.damage or described.state,
    )
    if described.manifest is None and not described.damage:
        yield "finish it", finishing_command(described.folder)
    yield "samples x views", f"{described.num_samples or 0:,} x {described.num_views}"
    yield "size", f"{human_bytes(described.num_bytes)} ({described.num_bytes:,} bytes)"


def finishing_command(folder: Path) -> str:
    """What to type to finish the half-written set in `folder`."""
    cache = folder.parent if folder.parent.name != "targets" else folder.parent.parent.parent
    return f"python -m extract --config {folder / SAVED_FLAGS} --out {out_of(cache)}"


def _flat(document: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", value if isinstance(value, str) and value.isprintable() else json.dumps(value)
