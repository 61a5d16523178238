"""Views as they are stored: a view set's identity names its codec; a modality is one file and one line here."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.errors import Damaged, NewerVersion
from shards.keys import KEYS
from shards.layout import PLAN

if TYPE_CHECKING:
    from shards.documents import Plan
    from shards.views.base import ViewCodec, ViewStorage

DEFAULT_MODALITY = "image"
"""Of view sets whose identity names none: those of before this field."""
REGISTRY = {"image": "shards.views.image", "text": "shards.views.text"}
"""A module of this folder offers `codec_of(identity) -> ViewCodec`, and `CHECKS` of what the identity must hold."""
STORAGE = {"tars": "shards.views.in_tars:ViewsInTars", "arrays": "shards.views.in_arrays:ViewsInArrays"}
"""How shards of views lie on the disk, by the name that a codec gives."""


def modality_of(identity: dict[str, Any]) -> str:
    """What the views of a view set of that identity are made of."""
    return str(identity.get("modality", DEFAULT_MODALITY))


def check_identity(where: str, identity: dict[str, Any]) -> None:
    """The identity is of a known modality and has its fields; else NewerVersion or Damaged, beginning with `where`."""
    modality = modality_of(identity)
    if modality not in REGISTRY:
        known = ", ".join(sorted(REGISTRY))
        raise NewerVersion(
            f"{where}: holds views of modality {modality!r}, and known are {known}: it was written by a newer version "
            "of teacher-shards; install that"
        )
    for name, fits in importlib.import_module(REGISTRY[modality]).CHECKS.items():
        if not fits(identity.get(name)):
            raise Damaged(f"{where}: identity.{name} cannot be {repr(identity.get(name))[:60]}; extract it again")


def view_codec(identity: dict[str, Any]) -> "ViewCodec":
    """How the views of a view set of that identity are stored."""
    codec: ViewCodec = importlib.import_module(REGISTRY[modality_of(identity)]).codec_of(identity)
    return codec


def storage_of(codec: "ViewCodec") -> "type[ViewStorage]":
    """The class that packs and reads the shards of such views."""
    module, _, name = STORAGE[codec.storage].partition(":")
    storage: type[ViewStorage] = getattr(importlib.import_module(module), name)
    return storage


def files_beside(plan: "Plan") -> list[str]:
    """What lies in a view set beside its shards, commits and manifest, by name."""
    codec = view_codec(plan.identity)
    storage = storage_of(codec)(Path(), plan, codec, 1, Path)
    return [PLAN, *([KEYS] if plan.keys_file else []), *codec.files, *storage.metadata()]
