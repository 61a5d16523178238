"""Plan: which view set a command line means here, and what the cache already holds of it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.augment import Augment, parse_augment
from extract.config import ExtractConfig
from extract.sources import open_source
from extract.sources.splits import canonical_split
from shards.errors import BadInput, IdentityMismatch
from shards.identity import differences, sha256_of
from shards.images import format_text, parse_image_format
from shards.layout import (
    PLAN,
    VIEWSET_MANIFEST,
    Plan,
    read_commit,
    read_viewset_manifest,
    viewset_folders,
    viewset_name,
)

if TYPE_CHECKING:
    from extract.sources.base import Source

DEFAULT_SHARD_SIZE = 512
MAX_SHARD_SIZE = 1 << 20
DEFAULT_SOURCE = "imagenet"


@dataclass(frozen=True)
class ViewSetJob:
    """A view set to write, finish, grow or read."""

    folder: Path
    plan: Plan
    num_views: int
    """Views that the view set will have."""
    asked_views: int
    """Views that the target sets of this run need."""
    source: "Source | None"
    """None where every view asked for is stored already and the source could not be opened."""
    augment: Augment

    def places(self, num_views: int | None = None) -> Iterator[tuple[int, int]]:
        """Every (view, shard) of the first `num_views` views, in the order they are made."""
        views = range(self.num_views if num_views is None else num_views)
        yield from ((view, shard) for view in views for shard in range(self.plan.num_shards))

    def missing(self) -> list[tuple[int, int]]:
        """The shards whose tar is not committed."""
        return [place for place in self.places() if read_commit(self.folder, *place) is None]


def held_viewset(config: ExtractConfig) -> tuple[ExtractConfig, Path | None]:
    """The view set of the cache that `config` speaks of, if any, and `config` with data, data_dir and limit filled."""
    cache = Path(config.out)
    held = {folder: Plan.read(folder) for folder in viewset_folders(cache)} if cache.is_dir() else {}
    if config.data is None:
        names = sorted({plan.request["data"] for plan in held.values()})
        if len(names) > 1:
            raise BadInput(f"--data: the cache {cache} holds several sources ({', '.join(names)}); name one")
        config = replace(config, data=names[0] if names else DEFAULT_SOURCE)
    same_data = {folder: plan for folder, plan in held.items() if plan.request["data"] == config.data}
    for plan in same_data.values():  # another split of the same source is stored alike
        config = replace(
            config,
            data_dir=config.data_dir or plan.request["data_dir"],
            image_size=config.image_size or plan.identity["image_size"],
            image_format=config.image_format or format_text(plan.identity["image_format"]),
        )
    # the split as it was typed: a source may know it by another name (cifar10's validation is its test split)
    asked = {config.split, canonical_split(config.split)}
    found = [folder for folder, plan in same_data.items() if asked & {plan.request["split"], _split(plan)}]
    if len(found) > 1:
        raise BadInput(f"--out {cache}: holds several view sets of {config.data} {config.split}; move them apart")
    if not found:
        return config, None
    return replace(config, limit=config.limit or held[found[0]].request["limit"]), found[0]


def _split(plan: Plan) -> str:
    return str(plan.identity["split"])


def plan_views(config: ExtractConfig, folder: Path | None, teacher_image_size: int | None) -> ViewSetJob:
    """The view set that `config` asks for; IdentityMismatch where the one in the cache (`folder`) is another."""
    held = Plan.read(folder) if folder else None
    whole_views = read_viewset_manifest(folder)["num_views"] if folder and (folder / VIEWSET_MANIFEST).exists() else 0
    asked_views = config.views or max(1, whole_views)
    source = _open(config, needed=asked_views > whole_views)
    identity, augment = _identity(config, held, source, teacher_image_size)
    if asked_views > 1 and augment.kind == "resize":
        raise BadInput(f"--views {asked_views}: views of a plain resize are all alike; give --augment crop, or 1 view")
    if folder is None:
        identity, folder = _place(Path(config.out), identity)
        held = Plan.read(folder) if (folder / PLAN).exists() else None  # asked for by another name of its source
    if source is not None:
        source = replace(source, upright="orientation" in identity)
    if held is None:
        assert source is not None
        held = _new_plan(config, source, identity)
    if held.identity != identity:
        found = "; ".join(differences(held.identity, identity))
        remedy = f"ask for what it has, give another --out, or python -m shards remove {folder}"
        raise IdentityMismatch(f"{folder} is another view set of this source and split: {found}; {remedy}")
    if config.shard_size not in (None, held.shard_size):
        raise IdentityMismatch(
            f"--shard_size {config.shard_size}: the plan in {folder} has {held.shard_size} and stays"
        )
    return ViewSetJob(folder, held, max(asked_views, whole_views), asked_views, source, augment)


def _place(cache: Path, identity: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """The identity and folder of a view set that the flags do not name: of the one in the cache, else of a new one."""
    as_stored = {name: value for name, value in identity.items() if name != "orientation"}  # written before there was
    folders = [(each, cache / viewset_name(each["source"], each["split"], each)) for each in (identity, as_stored)]
    return next(((each, folder) for each, folder in folders if (folder / PLAN).exists()), folders[0])


def _identity(
    config: ExtractConfig, held: Plan | None, source: "Source | None", teacher_image_size: int | None
) -> tuple[dict[str, Any], Augment]:
    """What is asked for: flags first, then what the cache holds, then the source's and the teacher's defaults."""
    identity = dict(held.identity) if held else {}
    split = source.split if source is not None else canonical_split(config.split)
    default = "crop" if split == "train" else "resize"
    if source is not None:
        default = (source.default_augment or default) if split == "train" else default
        identity |= {"source": source.name, "revision": source.revision, "split": source.split}
        identity |= {"keys": sha256_of("\n".join(source.keys).encode()), "num_samples": len(source.keys)}
        if source.encoded and held is None:
            identity["orientation"] = "upright"
    if held and not config.augment:
        augment = Augment.from_description(held.identity["augment"])
    else:
        augment = parse_augment(config.augment or default)
    seed = augment.seed if augment.seed is not None else identity.get("seed") or 0
    augment = replace(augment, seed=seed if augment.kind == "crop" else None)  # a plain resize draws nothing
    identity |= {
        "format": 1,
        "augment": augment.describe(),
        "seed": augment.seed,
        "image_size": config.image_size or teacher_image_size or 224,
        "image_format": parse_image_format(config.image_format or "jpeg"),
    }
    return identity, augment


def _new_plan(config: ExtractConfig, source: "Source", identity: dict[str, Any]) -> Plan:
    if not source.keys:
        raise BadInput(f"--data {config.data}: no samples in split {config.split}")
    names = list(source.class_names) if source.class_names is not None else None
    request = {"data": config.data, "data_dir": config.data_dir, "limit": config.limit, "split": config.split}
    shard_size = min(config.shard_size or DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE)
    return Plan(list(source.keys), shard_size, identity, names, request)


def _open(config: ExtractConfig, needed: bool) -> "Source | None":
    """The source; None, said aloud, where it cannot be opened and is not needed: the views are stored."""
    assert config.data is not None
    try:
        return open_source(config.data, config.split, config.data_dir, config.limit)
    except BadInput as error:
        if needed:
            raise
        print(f"extract: using the stored views; the source cannot be compared with them: {error}", file=sys.stderr)
        return None
