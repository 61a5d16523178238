"""Layout: where everything lies in a cache (docs/design.md, "On disk, version 1")."""

import re
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from shards.errors import Damaged
from shards.identity import identity_hash

VIEWSET_MANIFEST = "viewset.json"
TARGETSET_MANIFEST = "targetset.json"
PLAN = "plan.json"
TOKENIZER = "tokenizer.json"
"""Beside the plan of a view set of texts, and beside a student of texts: what the `tokenizers` library reads."""
CALIBRATION = "calibration.safetensors"
"""In a target set: what its codec took from the calibration set, made once and kept."""

Place = tuple[int, int]
"""View and shard."""
_SHARD_FILE = re.compile(r"(?:views/v(\d+)-(\d+)\.tar|commits/v(\d+)-(\d+)\.json|[^/]+/c/(\d+)/(\d+)(?:/0)*)")


def inside(root: Path, relative: str) -> Path:
    """The path of `relative` under `root`; Damaged if it is absolute, climbs out, or passes through a link.

    Damaged too where it ends in a pipe, a socket or a device, which would be waited for when it is opened.
    """
    parts = PurePosixPath(relative).parts
    if not relative.isprintable():
        raise Damaged(f"{root}: {relative!r} can be no name in a cache; do not use this cache")
    if not parts or relative.startswith("/") or ".." in parts or "\\" in relative:
        raise Damaged(f"{root}: the path {relative!r} leads outside the cache; do not use this cache")
    path = root
    for part in parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return root / relative
        if stat.S_ISLNK(mode):
            raise Damaged(f"{path}: is a link; a cache holds plain files only: copy the file here instead")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Damaged(f"{path}: is a pipe, a socket or a device; a cache holds plain files only: do not use it")
    return path


def viewset_name(source: str, split: str, identity: dict[str, Any]) -> str:
    """The folder name of a view set: source, split and the first 8 hex digits of its identity."""
    return f"{source}-{split}-{identity_hash(identity)[:8]}"


def targetset_name(
    teacher: str, target: str, codec: str, identity: dict[str, Any], keep_tokens: int | None = None
) -> str:
    """The folder name of a target set: teacher, target, codec, kept tokens, the first 8 hex digits of its identity."""
    kept = "" if keep_tokens is None else f"-{keep_tokens}tokens"
    codec = re.sub(r",\w+=", "-", codec.replace(":", ""))  # a comma and = separate what --targets names
    return f"{teacher}-{target}-{codec}{kept}-{identity_hash(identity)[:8]}"


def shard_name(view: int, shard: int) -> str:
    """The name of one shard, without its ending: v00-00000 is view 0, shard 0."""
    return f"v{view:02d}-{shard:05d}"


def tar_path(view: int, shard: int) -> str:
    """The path of a shard's tar, relative to its view set."""
    return f"views/{shard_name(view, shard)}.tar"


def commit_path(view: int, shard: int) -> str:
    """The path of a shard's commit record, relative to its view set or target set."""
    return f"commits/{shard_name(view, shard)}.json"


def place_of(relative: str) -> Place | None:
    """The view and shard of a set's file, by its name; None for a file of no shard."""
    if match := _SHARD_FILE.fullmatch(relative):
        view, shard = (int(group) for group in match.groups() if group is not None)
        return view, shard
    return None


def is_viewset(folder: Path) -> bool:
    """Whether `folder` is a view set: whole, half written, or damaged so far that one of its two documents is left."""
    return folder.is_dir() and any((folder / name).exists() for name in (PLAN, VIEWSET_MANIFEST))


def viewset_is_whole(folder: Path) -> bool:
    """Whether the view set in `folder` has its manifest, which is written last; it is half written otherwise."""
    return (folder / VIEWSET_MANIFEST).is_file()


def targetset_is_whole(folder: Path) -> bool:
    """Whether the target set in `folder` has its manifest, which is written last; it is half written otherwise."""
    return (folder / TARGETSET_MANIFEST).is_file()


def viewset_folders(cache: Path) -> list[Path]:
    """The view sets of `cache`, by name; without links, which lead to view sets of other caches."""
    folders = sorted(cache.iterdir()) if cache.is_dir() else []
    return [folder for folder in folders if is_viewset(folder) and not folder.is_symlink()]


def targetset_folders(viewset: Path) -> list[Path]:
    """The target sets of `viewset`, whole or half written, by name; Damaged where a link leads to them."""
    targets = inside(viewset, "targets")
    folders = sorted(targets.iterdir()) if targets.is_dir() else []
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]
