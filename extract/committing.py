"""Committing: a shard's files, then its commit record, and at last the manifest; a file appears only where none is.

Where two machines make the same shard, the first of them to create a file decides, and the other one finds the same
bytes or is refused. So the loser of a race never replaces what the winner's commit record names.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from shards.commit import create, write_sealed
from shards.documents import Commit, TargetSetManifest, ViewSetManifest, read_document
from shards.errors import RESTORE, BadInput, Damaged
from shards.layout import commit_path, inside, place_of
from shards.records import record_of
from shards.sealed import sealed


def commit(folder: Path, record: Commit, contents: Mapping[str, bytes | bytearray]) -> None:
    """`contents` (by their paths in the set) and `record` of them are on the disk, by us or by another machine.

    BadInput where another machine has written other bytes; they stay.
    """
    record = replace(record, files={name: record_of(content) for name, content in contents.items()})
    path, content = inside(folder, commit_path(record.view, record.shard)), sealed(record.document())
    before = path.read_bytes() if path.exists() else None
    if before is None:
        for name, each in contents.items():
            if create(inside(folder, name), each) not in (None, each):
                remedy = "or, when no other machine works here, run once with --launch local, which makes it anew"
                raise _another(folder / name, record, remedy)
        before = create(path, content)
    if before not in (None, content):
        theirs = read_document(path, Commit)
        raise _another(path, record, f"which has {theirs.device}" if theirs.device != record.device else "")


def _another(path: Path, ours: Commit, hint: str) -> BadInput:
    device = f" than {ours.device} computes" if ours.device else ""
    hint = f", {hint}" if hint else ""
    remedy = "give another --out, or use machines of one type"
    return BadInput(f"{path}: another machine wrote other bytes there{device}{hint}; {remedy}")


def remove_uncommitted(folder: Path) -> None:
    """The set in `folder` has no file of a shard without a commit record: a killed run left it, and it is made anew.

    Nor has it an empty folder, whose name that run may not have synced.
    """
    for place, _, names in os.walk(folder, topdown=False):
        is_empty = place != str(folder)
        for path in (Path(place, name) for name in names):
            of_shard = place_of(path.relative_to(folder).as_posix())
            if of_shard is not None and not (folder / commit_path(*of_shard)).exists():
                path.unlink()
            else:
                is_empty = False
        if is_empty:
            with contextlib.suppress(OSError):  # it has folders
                Path(place).rmdir()


def write_manifest(path: Path, manifest: ViewSetManifest | TargetSetManifest) -> None:
    """The manifest at `path` is `manifest`; Damaged where a file is no longer what the manifest there says of it.

    A growth adds files and rewrites the arrays' own zarr.json; all else stays as it was hashed when it was written.
    """
    former = read_document(path, type(manifest)).files if path.exists() else {}
    for name, record in former.items():
        if not name.endswith("/zarr.json") and manifest.files.get(name) != record:
            raise Damaged(f"{path.parent / name}: is not what {path.name} says it was; {RESTORE}")
    if not path.exists() or path.read_bytes() != sealed(manifest.document()):
        write_sealed(path, manifest.document())
