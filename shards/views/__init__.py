"""Views as they are stored: a view set's identity names its codec; a modality is one file and one line here."""

import importlib
from typing import TYPE_CHECKING, Any

from shards.errors import Damaged, NewerVersion

if TYPE_CHECKING:
    from shards.views.base import ViewCodec

DEFAULT_MODALITY = "image"
"""Of view sets whose identity names none: those of before this field."""
REGISTRY = {"image": "shards.views.image", "text": "shards.views.text", "pair": "shards.views.pair"}
"""A module of this folder offers `codec_of(identity) -> ViewCodec`, and `CHECKS` of what the identity must hold."""


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
