"""Cache: which view set and which target sets of a cache are meant, for extract, distill, evaluate and shards.

`open_cache` lists what lies at a path. A command narrows the list by what it knows (`prefer`), and takes what is left
(`only`); where several are left, the message lists them. Nothing is opened before it is chosen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from shards.documents import Plan, TargetSetManifest, read_targetset_manifest
from shards.errors import BadInput
from shards.layout import (
    PLAN,
    inside,
    is_viewset,
    targetset_folders,
    targetset_is_whole,
    viewset_folders,
    viewset_is_whole,
)
from shards.mirror import out_of
from shards.promised import Promises
from shards.remote import mirrored
from shards.splits import choose_split
from shards.stores import is_url
from shards.views import modality_of

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class ListedTargetSet:
    """A target set of a cache; what its manifest says is read once, and raises Incomplete while there is none."""

    folder: Path
    promised: TargetSetManifest | None = field(default=None, compare=False)
    """What its manifest will say, where its rows are to be read while it is made."""

    def __str__(self) -> str:
        return self.folder.name

    @property
    def whole(self) -> bool:
        """Whether it has its manifest, or a promise of one."""
        return self.promised is not None or targetset_is_whole(self.folder)

    @cached_property
    def manifest(self) -> TargetSetManifest:
        """Its manifest."""
        return self.promised or read_targetset_manifest(self.folder)

    @property
    def identity(self) -> dict[str, Any]:
        """What a stored row's meaning depends on."""
        return self.manifest.identity


@dataclass(frozen=True)
class ListedViewSet:
    """A view set of a cache; what its plan says is read once, and raises Damaged where the plan is lost."""

    folder: Path
    named: Path | None = None
    """The target set that the path names, which alone is listed then; None where it names no target set."""
    promises: Promises = field(default_factory=Promises, compare=False)
    """Of sets that are read while they are made."""

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def planned(self) -> bool:
        """Whether it has its plan, which is written first."""
        return (self.folder / PLAN).exists()

    @property
    def whole(self) -> bool:
        """Whether it has its manifest."""
        return viewset_is_whole(self.folder)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a stored view's meaning depends on."""
        return Plan.read(self.folder).identity  # not the plan, whose keys may be millions

    @cached_property
    def request(self) -> dict[str, Any]:
        """--data, --data_dir, --limit and --split of the command that began it."""
        return Plan.read(self.folder).request

    @property
    def source(self) -> str:
        """The source of its samples."""
        return str(self.identity["source"])

    @property
    def split(self) -> str:
        """The split of that source."""
        return str(self.identity["split"])

    @property
    def modality(self) -> str:
        """What its views are made of."""
        return modality_of(self.identity)

    @cached_property
    def targetsets(self) -> list[ListedTargetSet]:
        """Its target sets, whole or half written; Damaged where a link leads to them."""
        if self.named is not None:
            return [ListedTargetSet(inside(self.folder, f"targets/{self.named.name}"))]
        promised = self.promises.targetsets
        return [ListedTargetSet(folder, promised.get(folder.name)) for folder in targetset_folders(self.folder)]

    @property
    def listed_folders(self) -> list[Path]:
        """The folders of its target sets for `list` and `verify`, which tell of a link in their place themselves."""
        if self.named is not None:
            return [self.named]
        return [] if (self.folder / "targets").is_symlink() else targetset_folders(self.folder)


@dataclass(frozen=True)
class Cache:
    """The view sets that a path means."""

    name: str
    """How messages call it: the path, after its flag."""
    place: Path
    """The cache, view set or target set that the path names."""
    root: Path
    """The folder of all the cache's view sets, also of those that the path does not name."""
    viewsets: list[ListedViewSet]
    """At least one."""


def open_cache(path: str | Path, flag: str = "", promises: Promises | None = None) -> Cache:
    """What lies at `path`: CACHE, CACHE/VIEWSET or CACHE/VIEWSET/targets/TARGETSET; BadInput where that is nothing.

    A path may be a URL. Sets of a CACHE that are promised count as whole.
    """
    name, place = f"{flag} {path}".strip(), mirrored(str(path)) if is_url(path) else Path(path)
    full = place.resolve() if ".." in place.parts else place.absolute()
    if full.parent.name == "targets" and is_viewset(full.parent.parent):
        place = _as_typed(place, full, 3)
        viewset = place.parent.parent
        if not place.is_dir():
            raise BadInput(f"{name}: no such target set; {viewset} holds {names(ListedViewSet(viewset).targetsets)}")
        return Cache(name, place, viewset.parent, [ListedViewSet(viewset, place)])
    if is_viewset(full):
        place = _as_typed(place, full, 1)
        return Cache(name, place, place.parent, [ListedViewSet(place)])
    if not place.is_dir():
        raise BadInput(f"{name}: no such folder; python -m extract --teacher NAME --out {path} writes a cache there")
    if targetset_is_whole(place):
        raise BadInput(f"{name}: is a target set without its view set; give CACHE/VIEWSET/targets/TARGETSET")
    viewsets = list_viewsets(place, promises)
    if not viewsets:
        raise BadInput(f"{name}: holds no view set; python -m extract --teacher NAME --out {path} writes one there")
    return Cache(name, place, place, viewsets)


def viewsets_at(paths: Sequence[str]) -> list[ListedViewSet]:
    """The view sets that all of `paths` mean, each as `open_cache` lists it."""
    # the whole paths: what `info` says to type is typed in another folder too
    places = [path if is_url(path) else Path(path).absolute() for path in paths]
    return [viewset for place in places for viewset in open_cache(place).viewsets]


def _as_typed(typed: Path, full: Path, num_parts: int) -> Path:
    """`typed` where it names its last `num_parts` folders, else `full`: a summary keeps a relative path relative."""
    return full if ".." in typed.parts or len(typed.parts) < num_parts else typed


def list_viewsets(cache: Path, promises: Promises | None = None) -> list[ListedViewSet]:
    """The view sets in the folder `cache`; none where there is no such folder."""
    return [ListedViewSet(folder, promises=promises or Promises()) for folder in viewset_folders(cache)]


def names(choices: Sequence[object]) -> str:
    """The choices as a message lists them."""
    return ", ".join(map(str, choices)) or "none"


def prefer(choices: Sequence[Choice], fits: Callable[[Choice], bool]) -> list[Choice]:
    """Those that fit, or all where none does."""
    return [choice for choice in choices if fits(choice)] or list(choices)


def only(flag: str, kind: str, choices: Sequence[Choice], remedy: str = "name one") -> Choice:
    """The single one of `choices`; where there are several, BadInput lists them."""
    if len(choices) > 1:
        raise BadInput(f"{flag}: several {kind} fit; {remedy}: {names(choices)}")
    return choices[0]


def choose_viewset(cache: Cache, split: str, source: str | None = None, modality: str | None = None) -> ListedViewSet:
    """The view set of `split`, by any of its names, and of `source` and `modality` where the cache has any of these.

    Raises BadInput where no split fits, or several view sets do; the message lists them.
    """
    viewsets = prefer(cache.viewsets, lambda viewset: viewset.source == source)
    viewsets = prefer(viewsets, lambda viewset: viewset.modality == modality)
    try:
        split = choose_split(cache.name, split, {viewset.split for viewset in viewsets})
    except BadInput as error:
        more = f"or python -m extract with --split {split} --out {out_of(cache.root)} to add it"
        raise BadInput(f"{error}, {more}") from None
    return only(cache.name, "view sets", [viewset for viewset in viewsets if viewset.split == split])


def fitting_targetsets(flag: str, viewset: ListedViewSet, wanted: str | None) -> list[ListedTargetSet]:
    """The target sets of `viewset` that `wanted`, a part of a name, means; all of them for None.

    Raises BadInput where there is none; the message lists the target sets.
    """
    if not viewset.targetsets:
        remedy = f"python -m extract --teacher NAME --out {out_of(viewset.folder.parent)} adds one"
        raise BadInput(f"{flag}: {viewset} holds no target set; {remedy}")
    fitting = viewset.targetsets if wanted is None else named(viewset.targetsets, wanted)
    if not fitting and viewset.named is not None:
        raise BadInput(f"{flag} {wanted}: the path names another target set, {viewset.named}; give one of the two")
    if not fitting:
        raise BadInput(f"{flag} {wanted}: no target set fits; {viewset} holds {names(viewset.targetsets)}")
    return fitting


def named(choices: Sequence[Choice], wanted: str) -> list[Choice]:
    """The target sets that `wanted` means, by the first of these rules that fits any of their names.

    It is the whole name; else the name without its hash ends in it; else the name holds it as whole words between
    dashes; else as a part of a word.
    """
    words = f"-{wanted}-"
    rules: tuple[Callable[[str], bool], ...] = (
        lambda name: name == wanted,
        lambda name: f"-{name.rpartition('-')[0]}-".endswith(words),
        lambda name: words in f"-{name}-",
        lambda name: wanted in name,
    )
    fitting = ([choice for choice in choices if rule(str(choice))] for rule in rules if wanted)
    return next(filter(None, fitting), [])
