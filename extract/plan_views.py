"""Plan, first half: the one view set that a command line means here, and what the cache already holds of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.config import ExtractConfig
from extract.modalities import adapted, input_size, view_maker
from extract.modalities.base import ViewRequest, mismatch
from extract.named import DEFAULT_SOURCE, Data, know, named, open_data
from shards.cache import ListedViewSet, list_viewsets, only
from shards.checked import UncheckedFiles
from shards.documents import Plan, read_commit, read_viewset_manifest
from shards.errors import BadInput, IdentityMismatch
from shards.identity import differences
from shards.keys import keys_bytes, sha256_of_keys
from shards.layout import PLAN, commit_path, inside, is_viewset, viewset_is_whole, viewset_name
from shards.records import record_of
from shards.splits import canonical_split
from shards.storage import storage_of
from shards.views import DEFAULT_MODALITY, view_codec

if TYPE_CHECKING:
    from extract.modalities.base import InputSpec, ViewMaker
    from extract.sources.base import Source
    from shards.storage.base import ViewStorage
    from shards.views.base import ViewCodec

DEFAULT_SHARD_SIZE = 512
MAX_SHARD_SIZE = 1 << 20
SCRATCH = ".scratch"
"""In a cache, while views are made whose source is cut into samples first."""


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
    maker: "ViewMaker"
    inputs: "InputSpec | None" = None
    """The teacher's, as these views feed it."""

    @property
    def codec(self) -> "ViewCodec":
        """How the views are read for the teacher."""
        return self.maker.codec if self.inputs is None else self.inputs.reads(self.maker.codec)

    def feeding(self, teacher: str, inputs: "InputSpec") -> "ViewSetJob":
        """The same views as the input of another teacher takes them; BadInput where it cannot."""
        return replace(self, inputs=_fed(teacher, inputs, self.maker.codec))

    @property
    def scratch(self) -> Path:
        """Where what the views are cut out of lies while they are made."""
        return self.folder.parent / SCRATCH

    @property
    def storage(self) -> "ViewStorage":
        """How its shards are packed, and read back by whoever has no need to check them."""
        codec = self.codec
        return storage_of(codec)(self.folder, self.plan, codec, self.num_views, UncheckedFiles(self.folder))

    def places(self, num_views: int | None = None) -> Iterator[tuple[int, int]]:
        """Every (view, shard) of the first `num_views` views, in the order they are made."""
        views = range(self.num_views if num_views is None else num_views)
        yield from ((view, shard) for view in views for shard in range(self.plan.num_shards))

    def lacks(self, view: int, shard: int) -> bool:
        """Whether the tar of one shard is not committed, by the name of its commit record alone."""
        return not inside(self.folder, commit_path(view, shard)).exists()

    def missing(self) -> list[tuple[int, int]]:
        """The shards whose tar is not committed; Damaged where a commit record is not what it should be."""
        return [place for place in self.places() if read_commit(self.folder, *place) is None]


@dataclass(frozen=True)
class Stored:
    """What a cache says of the views that a command line means, before source and teacher are opened."""

    config: ExtractConfig
    """The flags, with data, data_dir and limit filled in from the cache."""
    folder: Path | None
    """The view set's; None where there is none yet."""
    plan: Plan | None
    sibling: dict[str, Any] | None
    """The identity of another split of the same source, which is to be stored alike."""
    named: Data | None
    """Where the user has named the data; None: only the cache names them."""

    def request(self, source: "Source | None" = None, inputs: "InputSpec | None" = None) -> ViewRequest:
        """What is known of the views that are asked for."""
        return ViewRequest(
            self.config.view,
            self.plan.identity if self.plan else None,
            self.sibling,
            (source.split if source else canonical_split(self.config.split)) == "train",
            source,
            inputs,
        )

    def teacher_size(self) -> int | None:
        """The size of input that the flags or the cache ask of the teacher."""
        return input_size(self.request())


def stored_views(config: ExtractConfig) -> Stored:
    """What the cache `config.out` holds of the views that `config` means; BadInput where it holds several that fit."""
    typed, viewsets = config, _viewsets(Path(config.out))
    if config.data is None:
        sources = sorted({viewset.request["data"] for viewset in viewsets}) or [DEFAULT_SOURCE]
        config = replace(config, data=only("--data", "sources", sources, f"name one of those in {config.out}"))
    viewsets = [viewset for viewset in viewsets if viewset.request["data"] == config.data]
    if config.data_dir is None and viewsets:
        config = replace(config, data_dir=viewsets[0].request["data_dir"])
    sibling, given = viewsets[0].identity if viewsets else None, named(typed, config, viewsets)
    # the split as it was typed: a source may know it by another name (cifar10's validation is its test split)
    names = {config.split, canonical_split(config.split)}
    viewsets = [viewset for viewset in viewsets if names & {viewset.request["split"], viewset.split}]
    if not viewsets:
        return Stored(config, None, None, sibling, given)
    viewset = only(f"--out {config.out}", f"view sets of {config.data} {config.split}", viewsets, "move them apart")
    config = replace(config, limit=config.limit or viewset.request["limit"])
    return Stored(config, viewset.folder, Plan.read(viewset.folder), sibling, given)


def _viewsets(cache: Path) -> list[ListedViewSet]:
    """The view sets of `cache` that have their plans: a plan that was lost is written anew."""
    if is_viewset(cache):
        raise BadInput(f"--out {cache}: is a view set; give its cache, --out {cache.absolute().parent}")
    return [viewset for viewset in list_viewsets(cache) if viewset.planned]


def plan_views(stored: Stored, inputs: "InputSpec | None") -> ViewSetJob:
    """The view set that is asked for, as the teacher of `inputs` takes it.

    IdentityMismatch where the cache has another one: it grows by views and changes in nothing else.
    """
    config, folder, plan = stored.config, stored.folder, stored.plan
    whole_views = read_viewset_manifest(folder).num_views if folder and viewset_is_whole(folder) else 0
    asked_views = config.views or max(1, whole_views)
    keeps_sources = plan is not None and whole_views > 0 and view_codec(plan.identity).keeps_sources
    source = open_data(stored.named, config, needed=asked_views > whole_views and not keeps_sources)
    maker = view_maker(stored.request(source, inputs))
    inputs = None if inputs is None else _fed(config.teacher, inputs, maker.codec)
    if asked_views > 1 and maker.all_alike:
        draws = "give a --view that draws (crop, blocks:mask=0.15)"
        raise BadInput(f"--views {asked_views}: such views are all alike; {draws}, or 1 view")
    if source is not None and (lacking := maker.needs - source.has):
        raise BadInput(f"--data {config.data}: its samples have no {' and no '.join(sorted(lacking))}; give other data")
    source = source and source.only(maker.needs)
    if source is not None and (source.documents is None or asked_views > whole_views):  # cutting a corpus takes long
        if source.documents is not None:
            _check_same(folder, plan, _identity(plan, source, maker))  # before a corpus is tokenised for nothing
        source = maker.arrange(source, Path(config.out) / SCRATCH, config.on_error == "skip")
    identity = _identity(plan, source, maker)
    if folder is None:
        for each in (identity, *maker.former(identity)):
            folder = _folder(Path(config.out), each)
            if (folder / PLAN).exists():  # asked for by another name of its source
                return plan_views(replace(stored, folder=folder, plan=Plan.read(folder)), inputs)
        folder = _folder(Path(config.out), identity)
    if plan is None:
        assert source is not None
        plan = _new_plan(config, source, identity)
    _check_same(folder, plan, identity)
    if config.shard_size not in (None, plan.shard_size):
        raise IdentityMismatch(
            f"--shard_size {config.shard_size}: the plan in {folder} has {plan.shard_size} and stays"
        )
    if source is not None:
        know(identity, stored.named)
    return ViewSetJob(folder, plan, max(asked_views, whole_views), asked_views, source, maker, inputs)


def _fed(teacher: str, inputs: "InputSpec", codec: "ViewCodec") -> "InputSpec":
    """The input of `teacher` as views of `codec` feed it; BadInput where they cannot."""
    inputs = adapted(inputs, codec)
    if misfit := mismatch(inputs, codec):
        raise BadInput(f"--teacher {teacher}: {misfit}; give another --teacher, --view or --data")
    return inputs


def _folder(cache: Path, identity: dict[str, Any]) -> Path:
    return cache / viewset_name(identity["source"], identity["split"], identity)


def _check_same(folder: Path | None, plan: Plan | None, identity: dict[str, Any]) -> None:
    if plan is not None and plan.identity != identity:
        diff = "; ".join(differences(plan.identity, identity))
        remedy = f"ask for what it has, give another --out, or python -m shards remove {folder}"
        raise IdentityMismatch(f"{folder} is another view set of this source and split: {diff}; {remedy}")


def _identity(plan: Plan | None, source: "Source | None", maker: "ViewMaker") -> dict[str, Any]:
    """What a stored view's meaning depends on: the source's samples, and how views are made of them."""
    identity = dict(plan.identity) if plan else {}
    if source is not None:
        identity |= {"source": source.name, "revision": source.revision, "split": source.split}
        if source.documents is None:
            identity |= {"keys": sha256_of_keys(source.keys), "num_samples": len(source.keys)}
    modality = {"modality": maker.codec.modality} if maker.codec.modality != DEFAULT_MODALITY else {}
    return identity | {"format": 1} | modality | maker.describe()


def _new_plan(config: ExtractConfig, source: "Source", identity: dict[str, Any]) -> Plan:
    if not source.keys:
        raise BadInput(f"--data {config.data}: no samples in split {config.split}")
    names = list(source.class_names) if source.class_names is not None else None
    request = {"data": config.data, "data_dir": config.data_dir, "limit": config.limit, "split": config.split}
    shard_size = min(config.shard_size or DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE)
    computed = keys_bytes(source.keys)
    if computed is not None:
        return Plan(source.keys, shard_size, identity, names, request, record_of(computed))
    return Plan(list(source.keys), shard_size, identity, names, request)
