"""Selection: which view sets and target sets a path on the command line means."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from shards.errors import BadInput
from shards.layout import PLAN, TARGETSET_MANIFEST, VIEWSET_MANIFEST, targetset_folders


@dataclass(frozen=True)
class Selection:
    """One view set and those of its target sets that are meant."""

    viewset: Path
    targetsets: list[Path]
    named: Path | None
    """The target set that the path named; None where it named the view set or the cache."""


def is_viewset(folder: Path) -> bool:
    """Whether `folder` holds a view set, whole, half written, or damaged so far that one of its documents is left."""
    return folder.is_dir() and any((folder / name).exists() for name in (PLAN, VIEWSET_MANIFEST))


def _targetsets(viewset: Path) -> list[Path]:
    # a link in the place of the folder is left to verify, which lists all damage
    return [] if (viewset / "targets").is_symlink() else list(targetset_folders(viewset))


def select(path: str) -> list[Selection]:
    """All that lies at `path`: a target set, a view set with all of its target sets, or a whole cache.

    Raises BadInput when nothing of ours lies there.
    """
    place = Path(path).absolute()
    if place.parent.name == "targets" and is_viewset(place.parent.parent) and place.is_dir():
        return [Selection(place.parent.parent, [place], place)]
    if is_viewset(place):
        return [Selection(place, _targetsets(place), None)]
    if not place.is_dir():
        raise BadInput(
            f"{path}: no such folder; give a cache, as python -m extract --teacher NAME --out {path} makes one"
        )
    if (place / TARGETSET_MANIFEST).exists():
        raise BadInput(f"{path}: is a target set without its view set; give CACHE/VIEWSET/targets/TARGETSET")
    # a link to a view set is left out: what it points to belongs to another cache
    folders = [folder for folder in sorted(place.iterdir()) if is_viewset(folder) and not folder.is_symlink()]
    if not folders:
        raise BadInput(f"{path}: holds no view set; python -m extract --teacher NAME --out {path} writes one there")
    return [Selection(folder, _targetsets(folder), None) for folder in folders]


def select_all(paths: Iterable[str]) -> list[Selection]:
    """All that lies at `paths`, in their order."""
    return [selection for path in paths for selection in select(path)]


def select_one(path: str) -> Selection:
    """The one view set, with its target sets, that `path` means; BadInput lists the choice where it means several."""
    found = select(path)
    if len(found) > 1:
        raise BadInput(f"{path}: holds several view sets; name one: {', '.join(str(one.viewset) for one in found)}")
    return found[0]


def named(folders: Iterable[Path], wanted: str) -> list[Path]:
    """The target sets that `wanted` means: by the whole name, else the name without its hash ending in it, else holding
    it as whole words between dashes, else as a part of a word; the first of these that fits any."""
    words = f"-{wanted}-"
    rules: tuple[Callable[[str], bool], ...] = (
        lambda name: name == wanted,
        lambda name: f"-{name.rpartition('-')[0]}-".endswith(words),
        lambda name: words in f"-{name}-",
        lambda name: wanted in name,
    )
    held = list(folders)
    return next((found for rule in rules if (found := [folder for folder in held if rule(folder.name)])), [])
