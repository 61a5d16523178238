"""Alternatives: what else might be kept of the same teacher, with bytes and what the codec leaves of some samples."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from extract.pipeline import Extraction, forward, kept_rows
from extract.plan_targets import Part, TargetSetJob
from extract.plan_views import ViewSetJob
from extract.targets import has_tokens, with_numbers, without_padding
from extract.views import ViewShard
from shards.codecs import LOGITS, make_codec
from shards.codecs.base import Codec
from shards.codecs.features import Features
from shards.errors import BadInput
from shards.zarrs import ArraySpec
from shards.zarrs import without_padding as little_padding

_SAMPLES = 16
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


def alternatives(extraction: Extraction, part: Part, shard: ViewShard) -> Iterator[Alternative]:
    """The targets of a teacher in the codecs that take them, what is asked for first."""
    assert part.teacher is not None
    asked = {job.target: job for job in part.targets}
    likely = [name for name in ("logits", "pooled", "cls", "layer_mean") if name in part.teacher.outputs]
    targets = list(dict.fromkeys([*asked, *likely]))[:_MOST_TARGETS]
    batch = kept_rows(shard)[:_SAMPLES]
    outputs = _outputs(extraction, part, shard, batch, targets)
    for target in targets:
        row_shape, extra = part.teacher.outputs[target], part.teacher.extra_tokens.get(target, 0)
        job = asked.get(target)
        of_job = [(job.codec.name, job.keep_tokens)] if job else []
        kept = [keep for keep in _KEPT if has_tokens(row_shape) and max(1, extra) <= keep < row_shape[0]]
        named: list[tuple[str, int | None]] = [(codec, None) for codec in _CODECS[target in LOGITS]]
        named += [(codec, keep) for codec, _ in named if codec != _PLAIN for keep in kept]
        errors: dict[str, str] = {}
        for codec, keep in dict.fromkeys([*of_job, *named]):
            with contextlib.suppress(BadInput):  # no codec of such rows
                size = _view_bytes(make_codec(codec, row_shape, keep), part.views)
                if codec not in errors:
                    errors[codec] = _error(extraction, make_codec(codec, row_shape), outputs[target], shard, batch)
                yield Alternative(target, codec, keep, size, errors[codec], (codec, keep) in of_job)


def _outputs(
    extraction: Extraction, part: Part, shard: ViewShard, batch: list[int], targets: list[str]
) -> Mapping[str, Features]:
    assert part.teacher is not None
    teacher, fields = part.teacher.only(targets), shard.batch(batch)
    valid = teacher.inputs.valid(fields)
    valid = None if valid is None else valid.to(extraction.device)
    outputs = forward(teacher, fields, extraction.device, extraction.precision)
    return {target: without_padding(outputs[target].float(), valid) for target in targets}


def _error(extraction: Extraction, codec: Codec, rows: Features, shard: ViewShard, batch: list[int]) -> str:
    vectors: Tensor = rows.content().vectors
    if codec.has_statistics:
        codec = codec.calibrate(vectors.cpu())
    seed = extraction.views.plan.identity["seed"] or 0
    drawn = with_numbers(codec, seed, [shard.keys[row] for row in batch], shard.view, extraction.device)
    error = drawn.error(rows.vectors if codec.numbers_a_row else vectors)
    if "cosine_mean" in error:
        return f"{error['cosine_mean']:.5f}"
    name, value = next(iter(error.items()))
    return f"{name} {value:.3g}"


def _view_bytes(codec: Codec, views: ViewSetJob) -> float:
    counts = len(views.plan.keys), views.plan.shard_size
    specs = [ArraySpec(name, dtype, shape, *counts) for name, (dtype, shape) in codec.arrays().items()]
    return float(sum(little_padding(spec).view_bytes for spec in specs))


def asked_bytes(jobs: Sequence[TargetSetJob], views: ViewSetJob) -> float:
    """One view of what is asked for."""
    return float(sum(_view_bytes(job.codec, views) for job in jobs))
