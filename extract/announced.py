"""Announced: each zarr.json says of how many views its array is: at least of as many as its manifest.

Commands that share a cache may ask for different numbers of views: one that asks for fewer leaves what another has
announced, and who writes the manifest writes the number that the manifest has.
"""

import json
from pathlib import Path
from typing import Any

from shards.commit import write_atomically


def is_announced(path: Path, content: bytes) -> bool:
    """Whether the file is there and is `content`, or announces more views."""
    return path.exists() and announces(path.read_bytes(), content)


def announces(there: bytes, content: bytes) -> bool:
    """Whether what is `there` is `content`, or announces more views."""
    if there == content:
        return True
    try:
        found, asked = json.loads(there), json.loads(content)
        return _of_views(found) > _of_views(asked) and _else(found) == _else(asked)
    except (ValueError, KeyError, TypeError, IndexError):  # it is damaged, and is written anew
        return False


def _of_views(metadata: dict[str, Any]) -> int:
    return int(metadata["shape"][0])


def _else(metadata: dict[str, Any]) -> dict[str, Any]:
    return metadata | {"shape": metadata["shape"][1:]}


def announce(path: Path, content: bytes) -> None:
    """The zarr.json announces the views of `content`, or more."""
    if not is_announced(path, content):
        write_atomically(path, content)


def announce_just(path: Path, content: bytes) -> None:
    """The zarr.json is `content`: it announces as many views as the manifest that is about to be written."""
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
