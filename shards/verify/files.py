"""Files: an entry of a set's table, and what must be true of a file's content beyond its SHA-256."""

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shards.checked import UncheckedFiles
from shards.documents import Plan, read_commit
from shards.errors import RESTORE, Damaged, one_line
from shards.layout import Place, commit_path, inside, tar_path
from shards.records import FileRecord, check_file
from shards.rows import check_row, row_checksums
from shards.storage import storage_of
from shards.storage.arrays import view_specs
from shards.storage.base import ViewStorage
from shards.storage.rendered import spec_of
from shards.tar import NO_MEMBER, listing
from shards.verify.findings import Findings
from shards.views import view_codec
from shards.views.base import ViewCodec
from shards.zarr_json import read_array
from shards.zarrs import ArraySpec, failing_chunks, object_rows

Check = Callable[[Path], None]
"""Raises Damaged where the content of the file is not as it must be."""


@dataclass(frozen=True)
class Entry:
    """A file that must be there: its size and SHA-256, and what else must be true of it."""

    record: FileRecord
    check: Check | None = None


Table = dict[str, Entry]
"""All files of a set, by their paths relative to its folder."""


def damage_of(folder: Path, relative: str, entry: Entry) -> str | None:
    """What is wrong with one file of a table, in one line; None for nothing."""
    try:
        path = check_file(folder, relative, entry.record)
        if entry.check is not None:
            entry.check(path)
    except Damaged as error:
        return one_line(error)
    except OSError as error:  # a bad sector is damage too, and the other files still want reading
        return f"{folder / relative}: cannot be read ({error.strerror}); {RESTORE}"
    return None


def check_tar(path: Path, folder: Path, place: Place, keys: list[str]) -> None:
    """The tar's own headers name the plan's `keys`, where the shard's commit record says that their members are."""
    commit = read_commit(folder, *place)  # only now: the places of a million members take a gigabyte
    if commit is None:
        return  # which is damage of its own
    skipped, members = set(commit.skipped or ()), commit.members or {}
    wanted = {
        f"{key}.{ending}": place
        for ending, places in members.items()
        for key, place in zip(keys, places, strict=False)
        if key not in skipped and place != NO_MEMBER
    }
    try:
        listed = listing(path, most=len(wanted) + len(skipped) * len(members))  # its names may be others
    except (tarfile.TarError, Damaged) as error:
        raise Damaged(f"{path}: its tar headers are not in order ({error}); {RESTORE}") from None
    stored = {name: (offset, size) for name, offset, size in listed}
    wrong = [name for name in wanted | stored if wanted.get(name) != stored.get(name)]
    if wrong:
        first = f"{wrong[0]} is at {stored.get(wrong[0])}, expected {wanted.get(wrong[0])}"
        raise Damaged(
            f"{path}: its members are not those of the plan and the commit record ({len(wrong)} differ): {first} "
            f"(offset, size); {RESTORE}"
        )
    if len(listed) != len(stored) or any(len(places) != len(keys) for places in members.values()):
        raise Damaged(f"{path}: names a member twice, or its commit record is of another plan; {RESTORE}")
    with path.open("rb", buffering=0) as file:
        for ending, places in members.items():
            contents = (_read(file, offset, size) for offset, size in places)
            _check_rows(path, folder, place, ending, contents, len(places))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """What the file has of a member: of a skipped row nothing says that its place lies inside."""
    there = max(0, os.fstat(file.fileno()).st_size - offset)
    return os.pread(file.fileno(), min(size, there), offset) if there else b""


def check_object(path: Path, spec: ArraySpec, num_rows: int, folder: Path, place: Place) -> None:
    """The shard object's index, every inner chunk and every row with a checksum pass their crc32c; indices are of
    something.
    """
    if failing := failing_chunks(path, spec, num_rows):
        raise Damaged(f"{path}: inner chunk {failing[0]} fails its crc32c ({len(failing)} do); {RESTORE}")
    rows = object_rows(spec, path.read_bytes(), num_rows)
    _check_rows(path, folder, place, spec.name, rows, num_rows)
    if spec.below is None:
        return
    for row, content in enumerate(rows):
        if (beyond := spec.beyond(np.frombuffer(content, np.uint8).reshape(1, -1))) is not None:
            below = f"expected numbers below {spec.below}"
            raise Damaged(f"{path}: row {row} of {spec.name} has the number {beyond[1]}, {below}; {RESTORE}")


def _check_rows(
    path: Path, folder: Path, place: Place, name: str, rows: Iterable[bytes | memoryview], num_rows: int
) -> None:
    """The rows' checksums in the shard's commit record, where it has some, are those of `rows`."""
    record = folder / commit_path(*place)
    commit = read_commit(folder, *place)
    sums = None if commit is None else row_checksums(record, commit.checksums, name, num_rows)
    for row, content in enumerate(rows if sums is not None else ()):
        assert sums is not None
        check_row(f"{path}: row {row} of {name}", content, int(sums[row]))


def view_checks(folder: Path, plan: Plan, place: Place) -> dict[str, Check]:
    """The files of one shard of views, by their names, and what must be true of each."""
    codec = view_codec(plan.identity)
    return _CHECKS_OF[codec.storage](folder, plan, codec, place)


def _tar_checks(folder: Path, plan: Plan, codec: ViewCodec, place: Place) -> dict[str, Check]:
    keys = [plan.keys[row] for row in plan.rows(place[1])]
    return {tar_path(*place): partial(check_tar, folder=folder, place=place, keys=keys)}


def _array_checks(folder: Path, plan: Plan, codec: ViewCodec, place: Place) -> dict[str, Check]:
    return {
        spec.shard_path(*place): partial(
            check_object, spec=spec, num_rows=spec.num_rows(place[1]), folder=folder, place=place
        )
        for spec in view_specs(codec, plan).values()
    }


def _rendered_checks(folder: Path, plan: Plan, codec: ViewCodec, place: Place) -> dict[str, Check]:
    spec = spec_of(plan)
    drawn = partial(check_object, spec=spec, num_rows=spec.num_rows(place[1]), folder=folder, place=place)
    images = {} if place[0] else _tar_checks(folder, plan, codec, place)
    return images | {spec.shard_path(*place): drawn}


_CHECKS_OF = {"tars": _tar_checks, "arrays": _array_checks, "rendered": _rendered_checks}
"""By how the views are stored."""


def announced_by_growth(folder: Path, plan: Plan, num_views: int, findings: Findings) -> list[str]:
    """Of a whole view set the zarr.json files that a growth wrote, which was cut off: they announce more views.

    Damage is added where one announces fewer than the manifest's `num_views`, or is of other arrays.
    """
    codec = view_codec(plan.identity)

    def storage(of_views: int) -> ViewStorage:
        return storage_of(codec)(folder, plan, codec, of_views, UncheckedFiles(folder))

    if findings.read(folder, lambda: storage(num_views).check() or True) is None:
        return []
    found = []
    for name in (name for name in storage(num_views).metadata() if "/" in name):
        _, announced = read_array(folder, name.removesuffix("/zarr.json"), len(plan.keys), plan.shard_size)
        if announced > num_views and (folder / name).read_bytes() == storage(announced).metadata()[name]:
            found.append(name)
    if found:
        findings.notes.append(f"{folder}: a growth by views was cut off; the same extract command finishes it")
    return found


def walk(folder: Path, findings: Findings, skip: str) -> Iterator[str]:
    """The plain files under `folder`, relative to it, without following links, which are damage."""

    def unreadable(error: OSError) -> None:
        path = error.filename
        findings.add(Path(path), f"{path}: cannot be read ({error.strerror}); mend its permissions")

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        if Path(parent) == folder and skip in folders and not (folder / skip).is_symlink():
            folders.remove(skip)
        for name in (*folders, *files):
            relative = (Path(parent) / name).relative_to(folder).as_posix()
            try:
                if inside(folder, relative).is_file():
                    yield relative
            except Damaged as error:
                findings.add(folder / relative, error)
