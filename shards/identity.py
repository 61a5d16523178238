"""Identity: what a stored byte means, as a JSON document with one SHA-256."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import structs

_READ_BYTES = 8 << 20
_ABSENT = "no such field"


def canonical_json(document: Any) -> bytes:
    """The one byte string for `document`: sorted keys, no spaces, ASCII, no NaN; a Struct in it is an object."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, default=structs.asdict)
    return text.encode()


def sha256_of(data: bytes | bytearray | memoryview) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of the file at `path`, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def identity_hash(identity: dict[str, Any]) -> str:
    """Hex SHA-256 of an identity; its first 8 digits name the folder."""
    return sha256_of(canonical_json(identity))


def differences(stored: Any, wanted: Any, prefix: str = "") -> list[str]:
    """One phrase for each field in which two identities differ, its value in the cache and the value asked for.

    Hashes come last, cut to 8 digits where these differ: what changed them is what a person can act on.
    """
    fields = sorted(_differing(stored, wanted, prefix), key=lambda field: any(map(_is_hash, field[1:])))
    return [
        f"{name}: the cache has {_shown(has, other)}, asked for {_shown(other, has)}" for name, has, other in fields
    ]


def same_but_for(identity: dict[str, Any], other: dict[str, Any], *ignored: str) -> bool:
    """Whether two identities have the same fields, those that are `ignored` aside."""
    return all(identity.get(name, _ABSENT) == other.get(name, _ABSENT) for name in {*identity, *other} - {*ignored})


def _differing(stored: Any, wanted: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for field in sorted(stored.keys() | wanted.keys()):
            inner = f"{name}.{field}" if name else field
            yield from _differing(stored.get(field, _ABSENT), wanted.get(field, _ABSENT), inner)
    elif stored != wanted:
        yield name, stored, wanted


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _shown(value: Any, other: Any) -> str:
    if _is_hash(value) and value[:8] != str(other)[:8]:
        return f"{value[:8]}..."
    text = _ABSENT if value is _ABSENT else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
