"""Naming: what a sample, a source and its content are called, so that names are safe in tars and folders."""

import hashlib
import re
from collections.abc import Iterable
from urllib.parse import quote

from shards.errors import BadInput

_MOST_CLASSES = 1_000_000


_HALF_PAIR = re.compile("[\ud800-\udfff]")


def without_halves(text: str) -> str:
    """`text` with U+FFFD for each half of a surrogate pair, which JSON may hold and which is no character."""
    return _HALF_PAIR.sub("\ufffd", text)


def tar_safe_key(text: str) -> str:
    """`text` percent-encoded to [A-Za-z0-9_/%-], one to one: webdataset ends a key at the first dot, so '.' is %2E."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_/-]*", text):
        return text
    encoded = quote(text.encode("utf-8", "surrogateescape"), safe="/").replace(".", "%2E").replace("~", "%7E")
    return "%2F" + encoded[1:] if encoded.startswith("/") else encoded


def folder_safe_name(text: str) -> str:
    """`text` in lower case with everything outside [a-z0-9_.-] made '-', never empty."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip(".-") or "unnamed"


def content_revision(parts: Iterable[str | int | bytes]) -> str:
    """The SHA-256 (64 hex digits) of `parts`, each under its length, so that no two lists of parts meet."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def numbered_classes(flag: str, labels: Iterable[int | None]) -> tuple[str, ...] | None:
    """'0', '1' ... up to the largest label, for classes that are numbered but not named; None without labels."""
    largest = max((label for label in labels if label is not None), default=-1)
    if largest >= _MOST_CLASSES:
        raise BadInput(
            f"{flag}: a label is {largest}, more than {_MOST_CLASSES} classes: check the label column or member"
        )
    return tuple(str(label) for label in range(largest + 1)) or None
