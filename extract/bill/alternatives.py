"""Alternatives: what else might be kept of the same teacher, with bytes and what the codec leaves of some samples."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from extract.calibrate import VECTORS_A_CENTROID
from extract.pipeline import Extraction, forward, kept_rows
from extract.plan_targets import Part, TargetSetJob
from extract.plan_views import ViewSetJob
from extract.targets import has_tokens, with_numbers, without_padding
from extract.views import ViewShard
from shards.codecs import LOGITS, make_codec
from shards.codecs.base import Codec
from shards.codecs.features import Features
from shards.documents import Plan
from shards.errors import BadInput
from shards.zarrs import ArraySpec
from shards.zarrs import without_padding as little_padding

if TYPE_CHECKING:
    from extract.teachers.base import Teacher

NUM_SAMPLES = 16
_MOST_TARGETS = 3
_KEPT = (49, 16)
"""Tokens a view."""
_PLAIN = "float16"
_CODECS = {True: (_PLAIN, "topk:16", "sample:12"), False: (_PLAIN, "int8", "int4")}
"""For logits, and for all else."""


@dataclass(frozen=True)
class Alternative:
    """One target in one codec."""

    target: str
    codec: str
    keep_tokens: int | None
    view_bytes: float
    """Of one view of all samples."""
    error: str
    """The mean cosine of some samples' vectors before and after, or what the codec states in its place."""
    chosen: bool
    """Whether it is what the command line asks for."""


@dataclass(frozen=True)
class Sampled:
    """Some views of a teacher."""

    fields: Mapping[str, Tensor]
    keys: Sequence[str]
    view: int
    seed: int
    device: torch.device
    precision: str


def alternatives(extraction: Extraction, part: Part, shard: ViewShard) -> Iterator[Alternative]:
    """The targets of a part's teacher in the codecs that take them, what is asked for first."""
    assert part.teacher is not None
    batch, seed = kept_rows(shard)[:NUM_SAMPLES], extraction.views.plan.identity["seed"] or 0
    keys, how = [shard.keys[row] for row in batch], (extraction.device, extraction.precision)
    sampled = Sampled(shard.batch(batch), keys, shard.view, seed, *how)
    asked = [(job.target, job.codec.name, job.keep_tokens) for job in part.targets]
    yield from offered(part.teacher, sampled, asked, part.views.plan)


def offered(
    teacher: "Teacher", sampled: Sampled, asked: Sequence[tuple[str, str, int | None]], plan: Plan
) -> Iterator[Alternative]:
    """What else a teacher might give of the views of `plan`; `asked` are targets, codecs and kept tokens."""
    likely = [name for name in ("logits", "pooled", "cls", "layer_mean") if name in teacher.outputs]
    targets = list(dict.fromkeys([*(target for target, _, _ in asked), *likely]))[:_MOST_TARGETS]
    outputs = _outputs(teacher.only(targets), sampled)
    for target in targets:
        row_shape, extra = teacher.outputs[target], teacher.extra_tokens.get(target, 0)
        own = [(codec, keep) for name, codec, keep in asked if name == target]
        kept = [keep for keep in _KEPT if has_tokens(row_shape) and max(1, extra) <= keep < row_shape[0]]
        named: list[tuple[str, int | None]] = [(codec, None) for codec in _CODECS[target in LOGITS]]
        named += [(codec, keep) for codec, _ in named if codec != _PLAIN for keep in kept]
        errors: dict[str, str] = {}
        for codec, keep in dict.fromkeys([*own, *named]):
            with contextlib.suppress(BadInput):  # no codec of such rows
                size = _view_bytes(make_codec(codec, row_shape, keep), plan)
                if codec not in errors:
                    errors[codec] = _error(make_codec(codec, row_shape), outputs[target], sampled)
                yield Alternative(target, codec, keep, size, errors[codec], (codec, keep) in own)


def _outputs(teacher: "Teacher", sampled: Sampled) -> Mapping[str, Features]:
    valid = teacher.inputs.valid({name: rows.cpu() for name, rows in sampled.fields.items()})
    valid = None if valid is None else valid.to(sampled.device)
    outputs = forward(teacher, sampled.fields, sampled.device, sampled.precision)
    return {target: without_padding(outputs[target].float(), valid) for target in teacher.outputs}


def _error(codec: Codec, rows: Features, sampled: Sampled) -> str:
    vectors: Tensor = rows.content().vectors
    if vectors.numel() // vectors.shape[-1] < VECTORS_A_CENTROID * codec.num_centroids:
        return "-"  # codebooks would know so few by heart
    if codec.has_statistics:
        codec = codec.calibrate(vectors.cpu())
    drawn = with_numbers(codec, sampled.seed, list(sampled.keys), sampled.view, sampled.device)
    error = drawn.error(rows.vectors if codec.numbers_a_row else vectors)
    if "cosine_mean" in error:
        return f"{error['cosine_mean']:.5f}"
    name, value = next(iter(error.items()))
    return f"{name} {value:.3g}"


def _view_bytes(codec: Codec, plan: Plan) -> float:
    counts = len(plan.keys), plan.shard_size
    specs = [ArraySpec(name, dtype, shape, *counts) for name, (dtype, shape) in codec.arrays().items()]
    return float(sum(little_padding(spec).view_bytes for spec in specs))


def asked_bytes(jobs: Sequence[TargetSetJob], views: ViewSetJob) -> float:
    """One view of what is asked for."""
    return float(sum(_view_bytes(job.codec, views.plan) for job in jobs))
