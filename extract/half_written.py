"""Half written: a set that a command left, by an extraction or a removal that was cut off."""

import json
from pathlib import Path
from typing import Any

from shards.errors import RESTORE, Damaged, IdentityMismatch
from shards.identity import differences
from shards.layout import targetset_folders, targetset_is_whole, viewset_is_whole


def refuse_half_written(viewset: Path, asked: Path, identity: dict[str, Any]) -> None:
    """A half-written target set of the same teacher, target and codec is finished or removed before another begins."""
    for folder in targetset_folders(viewset):
        same_name = folder.name.rpartition("-")[0] == asked.name.rpartition("-")[0]
        if not same_name or folder == asked or targetset_is_whole(folder):
            continue
        remedy = f"finish it with its own flags, or python -m shards remove {folder}"
        found = "; ".join(differences(half_written_identity(folder, remedy), identity))
        raise IdentityMismatch(f"{folder} is half written and is another target set: {found}; {remedy}")


def half_written_identity(folder: Path, remedy: str = RESTORE) -> dict[str, Any]:
    """The identity of a target set that has no manifest yet; Damaged where its zarr.json does not say it."""
    try:
        return dict(json.loads((folder / "zarr.json").read_bytes())["attributes"]["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{folder}: is half written and its zarr.json cannot be read ({error}); {remedy}") from None


def lacks_documents(folder: Path, *names: str) -> bool:
    """Whether a document that a set begins with is to be written: it has not begun, or a removal took some."""
    is_whole = viewset_is_whole(folder) or targetset_is_whole(folder)
    return any(not (folder / name).exists() for name in names[: 1 if is_whole else None])
