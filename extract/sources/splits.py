"""Which files or folders belong to a split, told from their names."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from extract.sources.naming import content_revision
from shards.errors import BadInput
from shards.splits import SPLIT_NAMES, canonical_split, choose_split


def find_files(flag: str, pattern: str, *suffixes: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the sorted files that a file, folder, glob or {a..b} finds.

    Of a folder or a pattern those whose names end in one of `suffixes`, in any case. Raises BadInput where there are
    none, and for a link to a folder that it lies in, by which every file would be there again and again.
    """
    from braceexpand import braceexpand

    path = Path(pattern).expanduser()
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        root, patterns = path, [str(path)]
    else:
        fixed = re.split(r"[*?\[{]", str(path))[0]
        root = Path(fixed[: fixed.rfind("/") + 1])
        try:
            patterns = list(braceexpand(str(path)))
        except ValueError as error:
            raise BadInput(f"{flag}: the braces of {path} do not match; write train-{{0..3}}{suffixes[0]}") from error
    files: set[Path] = set()
    for each in patterns:
        names = _names_below(flag, path) if path.is_dir() else glob.glob(each, recursive=True)  # noqa: PTH207 (or absolute)
        matching = [Path(name) for name in names if name.lower().endswith(suffixes) and _is_file(name)]
        if not matching:
            kinds = " or ".join(suffixes)
            raise BadInput(f"{flag}: no {kinds} file is found at {each}: give a file, a folder or a quoted pattern")
        files.update(matching)
    return root, sorted(files)


def _is_file(name: str) -> bool:
    """Whether it is a file, or a link to one that is gone; a pipe, a socket or a device is never opened."""
    return os.path.isfile(name) or not os.path.exists(name)  # noqa: PTH110, PTH113 (of millions of files)


def found_files(flag: str, pattern: str, *suffixes: str) -> list[Path]:
    """The files whose names end in one of `suffixes`, perhaps none."""
    try:
        return [file for file in find_files(flag, pattern, *suffixes)[1] if file.name.lower().endswith(suffixes)]
    except BadInput:
        return []


def _names_below(flag: str, root: Path) -> Iterator[str]:
    """The files in `root` and its folders, links followed, hidden ones left out."""
    for parent, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        for folder in (Path(parent, name) for name in folders):
            if folder.is_symlink() and any(folder.samefile(above) for above in folder.parents):
                raise BadInput(f"{flag}: the link {folder} leads back to a folder that holds it: remove the link")
        yield from (os.path.join(parent, name) for name in files if name[0] != ".")  # noqa: PTH118 (of millions of files)


class SplitFiles(NamedTuple):
    """The files of one split, and those of the train split, which number the classes of every split."""

    split: str
    files: list[Path]
    train: list[Path]


def pick_split(flag: str, root: Path, files: list[Path], asked: str) -> SplitFiles:
    """The split that `asked` means and its files; a file whose name tells no split is of `train`."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(flag, file.relative_to(root)), []).append(file)
    chosen = choose_split(flag, asked, {split or "train" for split in by_split})
    named, unnamed = by_split.get("train", []), by_split.get("", [])
    if chosen == "train" and named and unnamed:
        raise BadInput(
            f"{flag}: {named[0].name} says train and {unnamed[0].name} tells no split: give a pattern for one of them"
        )
    train = named or unnamed
    return SplitFiles(chosen, train if chosen == "train" else by_split[chosen], train)


def files_revision(
    root: Path,
    files: Iterable[Path],
    content: Callable[[Path], bytes] | None = None,
    classes: tuple[str, ...] | None = None,
) -> str:
    """What changes when a file's name below `root`, its size or what `content` reads of it does, or the classes do."""
    parts: list[str | int | bytes] = []
    for file in files:
        parts += [file.relative_to(root).as_posix(), file.stat().st_size, *([content(file)] if content else [])]
    return content_revision([*parts, *(classes or ())])


def split_words(name: str) -> set[str]:
    """The splits that the words of a file's or folder's name tell: `TestImages-00.tar` and `test_set.tar` tell test."""
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name) + re.findall("[a-z]+", name.lower())
    return {canonical_split(word.lower().removesuffix("set")) for word in words} & SPLIT_NAMES.keys()


def _split_of(flag: str, relative: Path) -> str:
    """The split named by the file, else by the nearest folder below the root that names one, else ''."""
    for part in (relative.name, *(folder.name for folder in relative.parents)):
        named = split_words(part)
        if len(named) > 1:
            raise BadInput(f"{flag}: {relative} names two splits, {' and '.join(sorted(named))}: rename it")
        if named:
            return named.pop()
    return ""
