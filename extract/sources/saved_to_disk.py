"""Saved to disk: folders that `datasets` wrote with `save_to_disk`, read by the files that their state names."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from extract.sources.splits import split_words
from shards.command.progress import counted
from shards.errors import BadInput


class SavedSplit(NamedTuple):
    """One split: its folder, and the files in it that hold its rows."""

    folder: Path
    files: list[Path]


def saved_splits(flag: str, root: Path) -> dict[str, SavedSplit]:
    """The splits that were saved under `root`, by name; none where no `save_to_disk` wrote it."""
    if (root / "dataset_dict.json").is_file():
        names = _read(flag, root / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and name == Path(name).name for name in names):
            raise BadInput(f"{flag}: dataset_dict.json lists no splits: save the dataset again")
        return {name: SavedSplit(root / name, _files(flag, root / name)) for name in names}
    if (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        return {_split(flag, root): SavedSplit(root, _files(flag, root))}
    return {}


def left_aside(flag: str, split: SavedSplit) -> tuple[str, ...]:
    """A line for the user on Arrow files that lie beside the split's own, as `.map` and `.filter` leave them."""
    others = sorted({path.name for path in split.folder.glob("*.arrow")} - {path.name for path in split.files})
    if not others:
        return ()
    count = counted(len(others), "Arrow file")
    return (f"{flag}: left aside {count} that state.json does not name ({others[0]})",)


def _split(flag: str, folder: Path) -> str:
    saved = _read(flag, folder / "state.json").get("_split")
    words = split_words(str(saved or "train"))
    if len(words) > 1:
        raise BadInput(f"{flag}: state.json says split {saved!r}, which is two: save each by itself")
    return words.pop() if words else str(saved)


def _files(flag: str, folder: Path) -> list[Path]:
    listed = _read(flag, folder / "state.json").get("_data_files")
    listed = listed if isinstance(listed, list) else []
    names = [each.get("filename") if isinstance(each, dict) else None for each in listed]
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise BadInput(f"{flag}: {folder / 'state.json'} names no files of its folder: save the dataset again")
    files = [folder / str(name) for name in names]
    if missing := next((file for file in files if not file.is_file()), None):
        raise BadInput(f"{flag}: state.json names {missing.name}, which is not in {folder}: save the dataset again")
    return files


def _read(flag: str, file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{flag}: {file} cannot be read ({error}): save the dataset again") from error
    return document if isinstance(document, dict) else {}
