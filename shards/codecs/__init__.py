"""Codecs: how a target's rows are encoded on disk and on the bus, one file each; `codec` finds one by its name."""

import importlib
import re
from typing import TYPE_CHECKING

from shards.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from shards.codecs.base import Codec

REGISTRY = {
    "float32": "shards.codecs.floating",
    "float16": "shards.codecs.floating",
    "int8": "shards.codecs.int8",
    "int4": "shards.codecs.int4",
    "pq": "shards.codecs.pq",
    "rq": "shards.codecs.rq",
    "topk": "shards.codecs.topk",
    "sample": "shards.codecs.sample",
}
PROBABILITIES = ("topk", "sample")
"""The codecs that decode to a Distribution."""
CODEBOOKS = ("pq", "rq")
"""The codecs whose stored codes may be predicted."""
LOGITS = ("logits", "mlm_logits")
"""The targets that they are for: rows over classes, or over a vocabulary for each token."""


def make_codec(spec: str, row_shape: tuple[int, ...], keep_tokens: int | None = None) -> "Codec":
    """The codec that `spec` (NAME or NAME:ARGUMENT) names, for rows of `row_shape`; only now is torch imported.

    With `keep_tokens` it stores so many tokens of each row (tokens, dim), and their positions.
    """
    name, _, argument = spec.partition(":")
    if name not in REGISTRY:
        raise UnknownName("codec", name, REGISTRY)
    if keep_tokens is not None and (len(row_shape) != 2 or not 1 <= keep_tokens <= row_shape[0]):
        raise BadInput(f"--keep_tokens {keep_tokens}: cannot be kept of rows {row_shape}; expected (tokens, dim)")
    stored_shape = row_shape if keep_tokens is None else (keep_tokens, row_shape[1])
    module = importlib.import_module(REGISTRY[name])
    try:
        codec: Codec = module.make(name, argument, stored_shape)
    except ValueError as error:
        raise BadInput(f"--codec {spec}: {error}") from None
    if keep_tokens is None:
        return codec
    from shards.codecs.kept import Kept

    return Kept(codec, keep_tokens, row_shape[0])


def split_codecs(specs: str) -> list[str]:
    """The codecs of `int8,pq:96,rotation=pca`: what names an option belongs to the codec before it."""
    return re.split(r",(?!\w+=)", specs)
