"""Codecs: how a target's rows are encoded on disk and on the bus, one file each; `codec` finds one by its name."""

import importlib
from typing import TYPE_CHECKING

from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from shards.codecs.base import Codec

REGISTRY = {
    "float32": "shards.codecs.floating",
    "float16": "shards.codecs.floating",
    "int8": "shards.codecs.int8",
    "int4": "shards.codecs.int4",
    "topk": "shards.codecs.topk",
}


def make_codec(spec: str, row_shape: tuple[int, ...]) -> "Codec":
    """The codec that `spec` (NAME or NAME:ARGUMENT) names, for rows of `row_shape`; only now is torch imported."""
    name, _, argument = spec.partition(":")
    if name not in REGISTRY:
        raise UnknownName("codec", name, REGISTRY)
    module = importlib.import_module(REGISTRY[name])
    try:
        return module.make(name, argument, row_shape)
    except ValueError as error:
        raise BadInput(f"--codec {spec}: {error}") from None
