"""Sealed: JSON documents with their own SHA-256, as they are written, and as they are checked when they are read.

A matching SHA-256 proves that nobody altered a document since it was written, not that its fields make sense: both
are checked before a field is used.
"""

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shards.errors import RESTORE, BadInput, Damaged, NewerVersion, TeacherShardsError, one_line
from shards.identity import canonical_json, sha256_of

FORMAT_VERSION = 1
MAX_DOCUMENT_BYTES = 2 << 30
"""A manifest, plan or commit record larger than this is refused before it is parsed."""
MAX_RUN_BYTES = 16 << 20
"""The same for a document of a run, which lists no samples."""

Kind = TypeVar("Kind", bound=msgspec.Struct)


def sealed(document: dict[str, Any]) -> bytes:
    """`document` as JSON with its own SHA-256 in the field `sha256`, one key a line so that people can read it."""
    body = {**document, "sha256": sha256_of(canonical_json(document))}
    lines = [f"{json.dumps(key)}: {canonical_json(body[key]).decode()}" for key in sorted(body)]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def unsealed(path: Path, kind: str, content: bytes | None = None) -> dict[str, Any]:
    """The sealed document of `kind` at `path`, its own hash, kind and format checked, and nothing else.

    `content` is what the file holds, where it was read before.
    """
    absent = "run the extract command again to write it"
    document = read_object(path, RESTORE, absent, Damaged, MAX_DOCUMENT_BYTES, content)
    check_seal(path, document)
    if document.get("kind") != kind:
        raise Damaged(f"{path}: expected a {kind}, found {repr(document.get('kind'))[:60]}")
    version = document.get("format")
    if type(version) is not int or version != FORMAT_VERSION:
        problem = f"{path}: format version {repr(version)[:60]}; this version of teacher-shards reads {FORMAT_VERSION}"
        if type(version) is int and version > FORMAT_VERSION:
            raise NewerVersion(f"{problem}: it was written by a newer one; install that")
        raise Damaged(problem)
    return document


def read_object(
    path: Path,
    remedy: str,
    absent: str | None = None,
    error: type[TeacherShardsError] = BadInput,
    limit: int = MAX_RUN_BYTES,
    content: bytes | None = None,
) -> dict[str, Any]:
    """The JSON object at `path`; `error`, with `remedy`, where it is missing, larger than `limit` bytes, or none.

    `absent` is the remedy for a file that is missing, where that is another one. `content` is the file's.
    """
    try:
        if (path.stat().st_size if content is None else len(content)) > limit:
            raise error(f"{path}: larger than {limit} bytes, which no {path.name} is; {remedy}")
        document = json.loads(path.read_bytes() if content is None else content)
    except FileNotFoundError:
        raise error(f"{path}: missing; {absent or remedy}") from None
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure.strerror}); {remedy}") from None
    except (ValueError, RecursionError) as failure:
        raise error(f"{path}: not JSON ({one_line(failure)}); {remedy}") from None
    if not isinstance(document, dict):
        raise error(f"{path}: expected an object, found a {type(document).__name__}; {remedy}")
    return document


def check_seal(
    path: Path, document: dict[str, Any], remedy: str = RESTORE, error: type[TeacherShardsError] = Damaged
) -> None:
    """`document`, read from `path`, fits the SHA-256 that it carries, which is taken out of it; `error` else."""
    seal = document.pop("sha256", None)
    try:
        fits = seal == sha256_of(canonical_json(document))
    except (ValueError, RecursionError) as failure:  # NaN, or nested too deep to be written again
        raise error(f"{path}: not JSON ({one_line(failure)}); {remedy}") from None
    if not fits:
        raise error(f"{path}: its own SHA-256 does not fit; it was altered: {remedy}")


_PLACE = re.compile(r" - at `\$\.(\w+)")
_ABSENT = re.compile(r"field `(\w+)`")


def fields_of(
    document: dict[str, Any],
    kind: type[Kind],
    where: str,
    prefix: str = "",
    remedy: str = RESTORE,
    error: type[TeacherShardsError] = Damaged,
) -> Kind:
    """The fields of `document` as `kind` has them; `error`, beginning with `where`, names the first that cannot be."""
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as failure:  # a field named by half of a pair
        reason = one_line(failure)
    named = _PLACE.search(reason) or _ABSENT.search(reason)
    if named is None:  # what the class itself says of fields that do not go together
        raise error(f"{where}: {prefix}{reason}; {remedy}")
    name = named[1]
    reason = f"{reason[0].lower()}{reason[1:]}"
    raise error(f"{where}: {prefix}{name} cannot be {repr(document.get(name))[:60]} ({reason}); {remedy}")
