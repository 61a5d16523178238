"""Plan: what a command line means here: which view set, which target sets, and what the cache already holds of them."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.augment import Augment, parse_augment
from extract.config import ExtractConfig
from extract.sources import open_source
from shards.errors import BadInput, IdentityMismatch, SourceUnavailable
from shards.identity import canonical_json, differences, identity_hash, sha256_of
from shards.images import parse_image_format
from shards.layout import (
    TARGETSET_MANIFEST,
    VIEWSET_MANIFEST,
    Plan,
    read_commit,
    read_targetset_manifest,
    read_viewset_manifest,
    targetset_folders,
    targetset_name,
    viewset_folders,
    viewset_name,
)

if TYPE_CHECKING:
    from extract.sources.base import Source
    from extract.teachers.base import Teacher
    from shards.codecs.base import Codec

DEFAULT_SHARD_SIZE = 512
DEFAULT_SOURCE = "imagenet"


@dataclass(frozen=True)
class ViewSetJob:
    """A view set to write, finish, grow or read."""

    folder: Path
    plan: Plan
    num_views: int
    source: "Source | None"
    """None where every view asked for is stored already and the source could not be opened."""
    augment: Augment

    def missing(self) -> list[tuple[int, int]]:
        """The shards whose tar is not committed."""
        return [place for place in self.places() if read_commit(self.folder, *place) is None]

    def places(self, num_views: int | None = None) -> Iterator[tuple[int, int]]:
        """Every (view, shard) of the first `num_views` views, in the order they are made."""
        views = range(self.num_views if num_views is None else num_views)
        yield from ((view, shard) for view in views for shard in range(self.plan.num_shards))


@dataclass(frozen=True)
class TargetSetJob:
    """A target set to write, finish or grow."""

    folder: Path
    identity: dict[str, Any]
    target: str
    codec: "Codec"
    row_shape: tuple[int, ...]
    num_views: int

    def lacks(self, view: int, shard: int) -> bool:
        """Whether this target set should have the rows of one shard and does not."""
        return view < self.num_views and read_commit(self.folder, view, shard) is None


def held_viewset(config: ExtractConfig) -> tuple[ExtractConfig, Path | None]:
    """The view set of the cache that `config` speaks of, if any, and `config` with data, data_dir and limit filled in."""
    cache = Path(config.out)
    held = {folder: Plan.read(folder) for folder in viewset_folders(cache)} if cache.is_dir() else {}
    if config.data is None:
        names = sorted({plan.request["data"] for plan in held.values()})
        if len(names) > 1:
            raise BadInput(f"--data: the cache {cache} holds several sources ({', '.join(names)}); name one")
        requests = [plan.request for plan in held.values()] or [{"data": DEFAULT_SOURCE}]
        given = {"data_dir": config.data_dir, "limit": config.limit}
        same_split = [plan.request for plan in held.values() if plan.identity["split"] == config.split]
        request = (same_split or requests)[0]
        config = replace(config, data=request["data"])
        if same_split:
            config = replace(config, **{name: given[name] or request[name] for name in given})
        elif config.data_dir is None:
            config = replace(config, data_dir=request.get("data_dir"))
    found = [
        folder
        for folder, plan in held.items()
        if plan.request["data"] == config.data and plan.identity["split"] == config.split
    ]
    if len(found) > 1:
        raise BadInput(f"--out {cache}: holds several view sets of {config.data} {config.split}; move them apart")
    return config, found[0] if found else None


def plan_views(config: ExtractConfig, folder: Path | None, teacher_image_size: int | None) -> ViewSetJob:
    """The view set that `config` asks for; IdentityMismatch where the one in the cache (`folder`) is another."""
    held = Plan.read(folder) if folder else None
    identity = dict(held.identity) if held else {}
    whole_views = read_viewset_manifest(folder)["num_views"] if folder and (folder / VIEWSET_MANIFEST).exists() else 0
    num_views = config.views or max(1, whole_views)
    source = _open(config, needed=num_views > whole_views)
    default = "crop" if config.split == "train" else "resize"
    if source is not None:
        if config.split == "train":
            default = source.default_augment or default
        identity |= {"source": source.name, "revision": source.revision, "split": source.split}
        identity |= {"keys": sha256_of("\n".join(source.keys).encode()), "num_samples": len(source.keys)}
    augment = Augment(**_tuples(held.identity["augment"])) if held and not config.augment else None
    augment = augment or parse_augment(config.augment or default)
    image_format = parse_image_format(config.image_format) if config.image_format else identity.get("image_format")
    seed = config.seed if config.seed is not None else identity.get("seed") or 0
    identity |= {
        "format": 1,
        "augment": augment.describe(),
        "seed": seed if augment.kind == "crop" else None,
        "image_size": config.image_size or identity.get("image_size") or teacher_image_size or 224,
        "image_format": image_format or parse_image_format("jpeg"),
    }
    if num_views > 1 and augment.kind == "resize":
        raise BadInput(
            f"--views {num_views}: the views of a plain resize are all alike; give --augment crop, or 1 view"
        )
    _refuse_mismatch(held, identity, folder)
    if held and config.shard_size not in (None, held.shard_size):
        raise IdentityMismatch(
            f"--shard_size {config.shard_size}: the plan in {folder} has {held.shard_size} and is kept"
        )
    if held is None:
        assert source is not None
        if not source.keys:
            raise BadInput(f"--data {config.data}: no samples in split {config.split}")
        request = {"data": config.data, "data_dir": config.data_dir, "limit": config.limit}
        names = list(source.class_names) if source.class_names is not None else None
        shard_size = min(config.shard_size or DEFAULT_SHARD_SIZE, 1 << 20)
        held = Plan(list(source.keys), shard_size, identity, names, request)
        folder = Path(config.out) / viewset_name(identity["source"], identity["split"], identity)
    assert folder is not None
    return ViewSetJob(folder, held, max(num_views, whole_views), source, augment)


def _open(config: ExtractConfig, needed: bool) -> "Source | None":
    assert config.data is not None
    try:
        return open_source(config.data, config.split, config.data_dir, config.limit)
    except SourceUnavailable as error:
        if needed:
            raise
        print(f"extract: using the stored views; the source cannot be compared with them: {error}", file=sys.stderr)
        return None


def _tuples(described: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}


def _refuse_mismatch(held: Plan | None, identity: dict[str, Any], folder: Path | None) -> None:
    if held is not None and held.identity != identity:
        found = "; ".join(differences(held.identity, identity))
        remedy = "ask for what it has, give another --out, or python -m shards remove it"
        raise IdentityMismatch(f"{folder} is another view set of this source and split: {found}; {remedy}")


def plan_targets(config: ExtractConfig, job: ViewSetJob, teacher: "Teacher") -> list[TargetSetJob]:
    """The target sets that `config` asks for, one for each --target."""
    from shards.codecs import make_codec

    targets = config.target.split(",")
    codecs = (config.codec or "float16").split(",")
    if len(codecs) not in (1, len(targets)):
        raise BadInput(f"--codec {config.codec}: give one codec, or one for each of --target {config.target}")
    jobs = []
    for target, spec in zip(targets, codecs * len(targets) if len(codecs) == 1 else codecs, strict=False):
        if target not in teacher.outputs:
            raise BadInput(f"--target {target}: {teacher.name} gives {', '.join(sorted(teacher.outputs))}")
        codec = make_codec(spec, teacher.outputs[target])
        identity = {
            "format": 1,
            "viewset": identity_hash(job.plan.identity),
            "teacher": {
                "architecture": teacher.architecture,
                "weights_sha256": teacher.weights_sha256,
                "preprocessing": {**asdict(teacher.preprocessing)},
            },
            "target": target,
            "codec": codec.describe(),
            "precision": config.precision,
        }
        identity = json.loads(canonical_json(identity))  # lists for tuples, as it will be read back
        folder = job.folder / "targets" / targetset_name(teacher.name, target, codec.name, identity)
        _refuse_half_written(job.folder, folder, identity)
        whole = read_targetset_manifest(folder)["num_views"] if (folder / TARGETSET_MANIFEST).exists() else 0
        num_views = max(config.views or job.num_views, whole)
        jobs.append(TargetSetJob(folder, identity, target, codec, teacher.outputs[target], num_views))
    return jobs


def _refuse_half_written(viewset: Path, asked: Path, identity: dict[str, Any]) -> None:
    """A half-written target set of the same teacher, target and codec is finished or removed before another begins."""
    for folder in targetset_folders(viewset):
        same_name = folder.name.rpartition("-")[0] == asked.name.rpartition("-")[0]
        if same_name and folder != asked and not (folder / TARGETSET_MANIFEST).exists():
            held = json.loads((folder / "zarr.json").read_bytes())["attributes"]["identity"]
            found = "; ".join(differences(held, identity))
            remedy = f"finish it with its own flags, or python -m shards remove {folder}"
            raise IdentityMismatch(f"{folder} is half written and is another target set: {found}; {remedy}")
