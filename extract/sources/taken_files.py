"""Taken files: what `datasets` takes for a split, compared with the names of the files that are there.

`datasets` guesses the splits by patterns: it reads `Testing/` as train, and takes one image in a hundred where a single
name holds a split's word. The cache still has to be what the user has.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from extract.photo import IMAGE_SUFFIXES
from extract.sources.left_out import is_system, is_system_folder
from extract.sources.splits import split_words
from shards.command.progress import counted
from shards.errors import BadInput
from shards.splits import SPLIT_NAMES, canonical_split


def check_taken(
    flag: str, taken: Mapping[str, list[str]], chosen: str, there: Iterable[str], remedy: str, may_be_renamed: bool
) -> tuple[str, ...]:
    """Lines for the user on files that are in no split; BadInput where a name contradicts the split `chosen`.

    `taken` has the files of each split and `there` all files, as names relative to the root. Files in no split raise
    BadInput where they `may_be_renamed` and the others are told by their own names, not by folders such as train/.
    """
    _check_names(flag, taken[chosen], chosen, remedy)
    files = {name for names in taken.values() for name in names}
    suffixes = {_suffix(name) for name in files}
    alike = IMAGE_SUFFIXES if suffixes & IMAGE_SUFFIXES else suffixes - {""}
    left_out = sorted(name for name in there if name not in files and _suffix(name) in alike and not _hidden(name))
    if not left_out:
        return ()
    said = (
        f"{flag}: `datasets` takes {counted(len(files), 'file')} and leaves out {counted(len(left_out), 'file')} alike "
        f"({left_out[0]})"
    )
    if may_be_renamed and not all(map(_splits_of_folders, files)):
        raise BadInput(f"{said}, since it finds splits in the names of the others: {remedy}")
    return (said,)


def unlisted_note(flag: str, names: list[str], num_rows: int) -> tuple[str, ...]:
    """A line for the user where a split of these files has fewer rows, as `metadata.csv` need not list them all."""
    num_images = sum(_suffix(name) in IMAGE_SUFFIXES for name in names)
    if num_rows >= num_images:
        return ()
    return (f"{flag}: `datasets` makes {counted(num_rows, 'sample')} of {counted(num_images, 'image file')}",)


def files_below(root: Path) -> list[str]:
    """Every file below `root`, by its name relative to it."""
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


def _check_names(flag: str, names: list[str], chosen: str, remedy: str) -> None:
    expected = split_words(chosen)
    top_folders = {name.partition("/")[0] if "/" in name else "" for name in names}
    # where every top folder tells a split, none is a class such as `test tube`
    tops_tell = all(map(split_words, top_folders))
    for name in names:
        if any(map(is_system_folder, PurePosixPath(name).parts[:-1])):
            raise BadInput(f"{flag}: `datasets` takes a system's own files, such as thumbnails ({name}): {remedy}")
        told = _splits_of_folders(name) | (split_words(name.partition("/")[0]) if tops_tell else set())
        if not told and _suffix(name) not in IMAGE_SUFFIXES:
            told = split_words(PurePosixPath(name).name)
        if told and expected and not told & expected:
            raise BadInput(f"{flag}: `datasets` takes {name} for split {chosen}, its name says {min(told)}: {remedy}")


def _splits_of_folders(name: str) -> set[str]:
    """The splits that the folders of a file are called by."""
    return {canonical_split(folder) for folder in PurePosixPath(name).parts[:-1]} & SPLIT_NAMES.keys()


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _hidden(name: str) -> bool:
    return any(part.startswith("__") or is_system(part) for part in PurePosixPath(name).parts)
