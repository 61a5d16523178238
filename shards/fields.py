"""Fields: what each document of a cache must hold before it is believed; a seal that fits says who wrote, not what."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import RESTORE, Damaged
from shards.views import check_identity

MAX_COUNT = 1 << 40
MAX_ROW_NUMBERS = 1 << 28

Check = Callable[[Any], bool]


def check_fields(path: Path, kind: str, document: dict[str, Any]) -> None:
    """Every field of the document at `path` has a type and size that its kind can have, else Damaged names it."""
    _check(path, "", document, _FIELDS.get(kind, {}))
    if kind in ("plan", "viewset"):
        _check(path, "identity.", document["identity"], _VIEWSET_IDENTITY)
        check_identity(str(path), document["identity"])
    names = document.get("class_names") if kind == "targetset" else None
    if names is not None and [len(names)] != document["row_shape"]:
        raise Damaged(f"{path}: {len(names)} class_names cannot name a row of shape {document['row_shape']}; {RESTORE}")


def _check(path: Path, prefix: str, document: dict[str, Any], checks: dict[str, Check]) -> None:
    for name, fits in checks.items():
        if not fits(document.get(name)):
            found = repr(document.get(name))[:60]
            raise Damaged(f"{path}: {prefix}{name} cannot be {found}; {RESTORE}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_COUNT


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are(fits: Check) -> Check:
    return lambda values: isinstance(values, list) and all(map(fits, values))


def _are_places(value: Any) -> bool:
    """[offset, size] of each row; looked at as an array, for a large cache has a million of them to open."""
    if not isinstance(value, list) or not value:
        return value == []
    try:
        places = np.array(value)
    except (ValueError, TypeError, OverflowError):  # rows of several lengths
        return False
    if places.dtype != np.int64 or places.shape != (len(value), 2):
        return False
    return bool((places >= 0).all() and (places <= MAX_COUNT).all())


def _is_request(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("data")) and _is_text(value.get("split"))


def _are_records(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(record, dict) and _is_number(record.get("size")) and _is_text(record.get("sha256"))
        for record in value.values()
    )


def _is_row_shape(value: Any) -> bool:
    return _are(_is_count)(value) and len(value) > 0 and math.prod(value) <= MAX_ROW_NUMBERS


def _are_arrays(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(
            isinstance(array, list) and len(array) == 2 and _is_text(array[0]) and _are(_is_count)(array[1])
            for array in value.values()
        )
    )


def _are_layouts(value: Any) -> bool:
    return isinstance(value, dict) and all(_are(_is_count)(rows) and len(rows) == 2 for rows in value.values())


_FIELDS: dict[str, dict[str, Check]] = {
    "plan": {
        "keys": lambda value: _are(_is_text)(value) and len(value) > 0,
        "shard_size": _is_count,
        "identity": _is_object,
        "class_names": lambda value: value is None or _are(_is_text)(value),
        "request": _is_request,
    },
    "viewset": {
        "identity": _is_object,
        "num_samples": _is_count,
        "num_views": _is_count,
        "num_shards": _is_count,
        "shard_size": _is_count,
        "skipped": _are(_is_text),
        "files": _are_records,
    },
    "targetset": {
        "identity": lambda value: isinstance(value, dict) and _is_text(value.get("viewset")),
        "teacher": _is_text,
        "target": _is_text,
        "codec": _is_text,
        "row_shape": _is_row_shape,
        "keep_tokens": lambda value: value is None or _is_count(value),
        "teacher_settings": lambda value: value is None or _is_object(value),
        "class_names": lambda value: value is None or _are(_is_text)(value),
        "arrays": _are_arrays,
        "layouts": lambda value: value is None or _are_layouts(value),
        "num_samples": _is_count,
        "num_views": _is_count,
        "shard_size": _is_count,
        "files": _are_records,
    },
    "commit": {
        "view": _is_number,
        "shard": _is_number,
        "files": _are_records,
        "members": lambda value: value is None or (isinstance(value, dict) and all(map(_are_places, value.values()))),
        "skipped": lambda value: value is None or _are(_is_text)(value),
        "digests": lambda value: value is None or _are(_is_text)(value),
    },
}
_VIEWSET_IDENTITY: dict[str, Check] = {
    "source": _is_text,
    "split": _is_text,
    "keys": _is_text,
    "num_samples": _is_count,
}
