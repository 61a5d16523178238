"""Decode: a target set's stored rows as an objective would be given them."""

import dataclasses
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from shards.errors import RESTORE, BadInput, Damaged, one_line
from shards.layout import CALIBRATION
from shards.order import Reading
from shards.reader import TargetSet

if TYPE_CHECKING:
    from torch import Tensor

    from shards.codecs.base import Codec, Encoded
    from shards.codecs.features import Features


def codec_of(targetset: TargetSet) -> "Codec":
    """The codec that the target set was encoded with, with its calibration where it has one."""
    from shards.codecs import make_codec

    manifest = targetset.manifest
    try:
        codec = make_codec(manifest.codec, targetset.row_shape, manifest.keep_tokens)
    except BadInput as error:
        raise Damaged(f"{targetset.folder}: names no codec of its rows ({error}); {RESTORE}") from None
    arrays = {name: (spec.dtype, spec.row_shape) for name, spec in targetset.arrays.items()}
    if codec.arrays() != arrays or codec.describe() != targetset.identity["codec"]:
        raise Damaged(f"{targetset.folder}: its arrays are not those of its codec {codec.name}; {RESTORE}")
    if not codec.has_statistics:
        return codec
    return with_statistics(codec, targetset.checked(CALIBRATION), RESTORE)


def with_statistics(codec: "Codec", path: Path, remedy: str) -> "Codec":
    """`codec` with the statistics in `path`; Damaged, with `remedy`, where the file holds none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise Damaged(f"{path}: is damaged ({one_line(error)}); {remedy}") from None
    return codec.with_state(state)


def decode(codec: "Codec", stored: "Encoded", valid: "Tensor | None" = None) -> "Features":
    """What an objective is given of a batch's stored arrays; `valid` says which tokens (batch, tokens) are content."""
    from shards.codecs.features import Codes, Features

    rows, codes = codec.decode(stored), codec.codes(stored)
    features = rows if isinstance(rows, Features) else Features(rows)
    features = features if codes is None else dataclasses.replace(features, codes=Codes(codes, codec))
    return features.within(valid)


def decode_readings(codecs: "Sequence[Codec]", stored: "Encoded", readings: Sequence[Reading]) -> "Features":
    """What an objective is given of the stored rows of `readings`, each component's decoded by its own codec.

    The statistics of a codec are those of one target set.
    """
    from shards.codecs.features import Features

    parts, first = [], 0
    for component, some in groupby(readings, key=lambda reading: reading.component):
        end = first + sum(len(reading.samples) for reading in some)
        parts.append(decode(codecs[component], {name: rows[first:end] for name, rows in stored.items()}))
        first = end
    return Features.join(parts)


def read_decoded(targetset: TargetSet, codec: "Codec", view: int, samples: Int[np.ndarray, " count"]) -> Any:
    """The decoded rows of `samples` (strictly ascending) of one view: a float32 tensor, or the codec's own type."""
    import torch

    stored = targetset.read(view, samples)
    return codec.decode({name: torch.from_numpy(rows) for name, rows in stored.items()})


def spread(total: int, num: int) -> Int[np.ndarray, " count"]:
    """`num` of range(total), ascending, at even distances; all of them where there are fewer."""
    count = min(num, total)
    return (2 * np.arange(count, dtype=np.int64) + 1) * total // (2 * max(1, count))


def as_arrays(decoded: Any, name: str) -> dict[str, np.ndarray]:
    """What a codec decoded, as named arrays with a row a sample: `name`, or each field of the codec's own type."""
    import torch

    if isinstance(decoded, torch.Tensor):
        return {name: decoded.numpy()}
    arrays: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(decoded) if dataclasses.is_dataclass(decoded) else ():
        arrays |= as_arrays(getattr(decoded, field.name), field.name)
    return arrays
