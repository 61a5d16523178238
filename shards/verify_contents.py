"""What must be true of a shard's content beyond its SHA-256; Damaged says what is not."""

import tarfile
from pathlib import Path
from typing import Any

from shards.errors import RESTORE, Damaged
from shards.tar import listing
from shards.zarrs import ArraySpec, MappedShard


def check_tar(path: Path, commit: dict[str, Any], keys: list[str]) -> None:
    """The tar's own headers name the plan's `keys`, where the commit record says that their members are."""
    try:
        found = listing(path.read_bytes())
    except (tarfile.TarError, Damaged) as error:
        raise Damaged(f"{path}: its tar headers are not in order ({error}); {RESTORE}") from None
    skipped, members = set(commit["skipped"]), commit["members"]
    wanted = {
        f"{key}.{ending}": tuple(place)
        for ending, places in members.items()
        for key, place in zip(keys, places, strict=False)
        if key not in skipped and place != [0, 0]
    }
    held = {name: (offset, size) for name, offset, size in found}
    wrong = [name for name in wanted | held if wanted.get(name) != held.get(name)]
    if wrong:
        first = f"{wrong[0]} is at {held.get(wrong[0])}, expected {wanted.get(wrong[0])}"
        raise Damaged(
            f"{path}: its members are not those of the plan and the commit record ({len(wrong)} differ): {first} "
            f"(offset, size); {RESTORE}"
        )
    if len(found) != len(held) or any(len(places) != len(keys) for places in members.values()):
        raise Damaged(f"{path}: names a member twice, or its commit record is of another plan; {RESTORE}")


def check_object(path: Path, spec: ArraySpec, num_rows: int) -> None:
    """The shard object's index and every inner chunk pass their crc32c."""
    failing = MappedShard(path, spec, num_rows).failing_chunks()
    if failing:
        raise Damaged(f"{path}: inner chunk {failing[0]} fails its crc32c ({len(failing)} do); {RESTORE}")
