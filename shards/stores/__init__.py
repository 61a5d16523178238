"""Stores: where a cache lies when it is no folder, by the scheme of its URL; one file and one line each."""

import importlib
import re

from shards.errors import UnknownName
from shards.stores.base import Store

REGISTRY = {
    "s3": "shards.stores.bucket",
    "gs": "shards.stores.bucket",
    "az": "shards.stores.bucket",
    "file": "shards.stores.folder",
    "hf": "shards.stores.hugging_face",
}
"""A module of this folder offers `open_url(url) -> Store`."""
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://")


def is_url(path: object) -> bool:
    """Whether `path` names a store and not a folder."""
    return _URL.match(str(path)) is not None


def open_store(url: str) -> Store:
    """The store at `url`; nothing is read yet. BadInput for a scheme that no store has."""
    match = _URL.match(url)
    scheme = match[1] if match else url.partition(":")[0]
    if scheme not in REGISTRY:
        raise UnknownName("kind of store", f"{scheme}://", [f"{known}://" for known in REGISTRY])
    store: Store = importlib.import_module(REGISTRY[scheme]).open_url(url.rstrip("/"))
    return store
