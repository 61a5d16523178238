"""Layout: where everything lies in a cache, and the documents that say so (DESIGN, "On disk, version 1")."""

import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shards.errors import Damaged, Incomplete
from shards.identity import identity_hash, unsealed

VIEWSET_MANIFEST = "viewset.json"
TARGETSET_MANIFEST = "targetset.json"
PLAN = "plan.json"
CALIBRATION = "calibration.safetensors"
"""In a target set: what its codec took from the calibration set, made once and kept."""


def inside(root: Path, relative: str) -> Path:
    """The path of `relative` under `root`; Damaged if it is absolute, climbs out, or passes through a link."""
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\\" in relative or "\0" in relative:
        raise Damaged(f"{root}: the path {relative!r} leads outside the cache; do not use this cache")
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise Damaged(f"{path}: is a link; a cache holds plain files only: copy the file here instead")
    return path


def viewset_name(source: str, split: str, identity: dict[str, Any]) -> str:
    """The folder name of a view set: source, split and the first 8 hex digits of its identity."""
    return f"{source}-{split}-{identity_hash(identity)[:8]}"


def targetset_name(
    teacher: str, target: str, codec: str, identity: dict[str, Any], keep_tokens: int | None = None
) -> str:
    """The folder name of a target set: teacher, target, codec, kept tokens, the first 8 hex digits of its identity."""
    kept = "" if keep_tokens is None else f"-{keep_tokens}tokens"
    return f"{teacher}-{target}-{codec.replace(':', '')}{kept}-{identity_hash(identity)[:8]}"


def shard_name(view: int, shard: int) -> str:
    """The name of one shard, without its ending: v00-00000 is view 0, shard 0."""
    return f"v{view:02d}-{shard:05d}"


def tar_path(view: int, shard: int) -> str:
    """The path of a shard's tar, relative to its view set."""
    return f"views/{shard_name(view, shard)}.tar"


def commit_path(view: int, shard: int) -> str:
    """The path of a shard's commit record, relative to its view set or target set."""
    return f"commits/{shard_name(view, shard)}.json"


def read_commit(folder: Path, view: int, shard: int) -> dict[str, Any] | None:
    """The commit record of one shard, or None when the shard was not committed."""
    path = inside(folder, commit_path(view, shard))
    if not path.exists():
        return None
    record = unsealed(path, "commit")
    if (record["view"], record["shard"]) != (view, shard):
        raise Damaged(f"{path}: is the commit of {shard_name(record['view'], record['shard'])}; shards were swapped")
    return record


@dataclass(frozen=True)
class Plan:
    """Which sample lies in which shard: the keys in order, cut into shards of `shard_size` rows."""

    keys: list[str]
    shard_size: int
    identity: dict[str, Any]
    class_names: list[str] | None
    request: dict[str, Any]
    """--data, --data_dir and --limit as they were given: where the source was, not part of the identity."""

    @classmethod
    def read(cls, viewset: Path) -> "Plan":
        """The plan of the view set in the folder `viewset`; its keys are shared by all who read it, and never changed.

        Parsed once a process: of a million samples it takes a second, and a command asks for it several times.
        """
        path = inside(viewset, PLAN)
        if not path.exists():
            return cls._parse(path)  # which says what is missing
        status = path.stat()
        version = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
            return cls._parse(path)
        plan = _PLANS.get(version)
        if plan is None:
            plan = cls._parse(path)
            _keep(version, plan)
        return plan

    @classmethod
    def _parse(cls, path: Path) -> "Plan":
        document = unsealed(path, "plan")
        fields = ("keys", "shard_size", "identity", "class_names", "request")
        return cls(**{field: document[field] for field in fields})

    def document(self) -> dict[str, Any]:
        """The plan as it is sealed on disk."""
        return {
            "kind": "plan",
            "format": 1,
            "keys": self.keys,
            "shard_size": self.shard_size,
            "identity": self.identity,
            "class_names": self.class_names,
            "request": self.request,
        }

    @property
    def num_shards(self) -> int:
        """Shards in each view."""
        return -(-len(self.keys) // self.shard_size)

    def rows(self, shard: int) -> range:
        """The samples of one shard, as indices into `keys`."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, len(self.keys)))


_PLANS: dict[tuple[object, ...], Plan] = {}
"""Plans by path, inode, size and time of change."""
_PLANS_KEPT, _KEYS_KEPT = 4, 6_000_000
"""Plans that are kept however large they are; more of them while all have few keys, which take 0.5 GB."""
_SETTLED_NS = 2 * 10**9
"""A file that changed less than this ago may change again and keep its time, whose steps are milliseconds."""


def _keep(version: tuple[object, ...], plan: Plan) -> None:
    """`plan` is kept for the rest of the process; the oldest plans leave where all together are too large."""
    while len(_PLANS) >= _PLANS_KEPT and sum(len(each.keys) for each in (plan, *_PLANS.values())) > _KEYS_KEPT:
        _PLANS.pop(next(iter(_PLANS)), None)
    _PLANS[version] = plan


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


def read_viewset_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole view set; Incomplete while it is half written."""
    if not viewset_is_whole(folder) and (folder / PLAN).exists():
        raise Incomplete(f"{folder}: half written (no {VIEWSET_MANIFEST}); run the same extract command to finish it")
    return unsealed(inside(folder, VIEWSET_MANIFEST), "viewset")


def read_targetset_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole target set; Incomplete while it is half written."""
    if not targetset_is_whole(folder):
        raise Incomplete(f"{folder}: half written (no {TARGETSET_MANIFEST}); run the same extract command to finish it")
    return unsealed(inside(folder, TARGETSET_MANIFEST), "targetset")
