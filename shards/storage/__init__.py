"""Storages: how shards of views lie on the disk, by the name that a view codec gives; one file and one line each."""

import importlib
from pathlib import Path

from shards.checked import UncheckedFiles
from shards.documents import Plan
from shards.keys import KEYS
from shards.layout import PLAN
from shards.storage.base import ViewStorage
from shards.views import view_codec
from shards.views.base import ViewCodec

REGISTRY = {name: f"shards.storage.{name}" for name in ("tars", "arrays", "rendered")}
"""A module of this folder offers `Storage`, a ViewStorage."""


def storage_of(codec: ViewCodec) -> type[ViewStorage]:
    """The class that packs and reads the shards of such views."""
    storage: type[ViewStorage] = importlib.import_module(REGISTRY[codec.storage]).Storage
    return storage


def files_beside(plan: Plan) -> list[str]:
    """What lies in a view set beside its shards, commits and manifest, by name."""
    codec = view_codec(plan.identity)
    storage = storage_of(codec)(Path(), plan, codec, 1, UncheckedFiles(Path()))
    return [PLAN, *([KEYS] if plan.keys_file else []), *codec.files, *storage.metadata()]
