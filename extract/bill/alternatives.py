"""Alternatives: what else might be kept of the same teacher, with bytes and what the codec leaves of some samples."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from extract.bill.codebooks import Calibration, calibration_of, codebook_codecs, samples_to_learn, unseen_error
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
"""For logits, and for all else, to which `codebook_codecs` come."""
_MOST_SAMPLES, _MOST_BYTES = 512, 1 << 28
"""That codebooks learn from while there is time, and of their rows."""


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
    calibration: Calibration
    """What its statistics take before the first shard."""


@dataclass(frozen=True)
class Sampled:
    """Some views of a teacher."""

    fields: Mapping[str, Tensor]
    keys: Sequence[str]
    view: int
    seed: int
    device: torch.device
    precision: str

    def part(self, rows: slice) -> "Sampled":
        """Some of them."""
        return replace(self, fields={name: each[rows] for name, each in self.fields.items()}, keys=self.keys[rows])


def alternatives(extraction: Extraction, part: Part, shard: ViewShard, seconds: float) -> Iterator[Alternative]:
    """The targets of a part's teacher in the codecs that take them, what is asked for first.

    So many `seconds` may be spent on what codebooks learn from.
    """
    assert part.teacher is not None
    batch, seed = kept_rows(shard)[:_MOST_SAMPLES], extraction.views.plan.identity["seed"] or 0
    keys, how = [shard.keys[row] for row in batch], (extraction.device, extraction.precision)
    sampled = Sampled(shard.batch(batch), keys, shard.view, seed, *how)
    asked = [(job.target, job.codec.name, job.keep_tokens) for job in part.targets]
    yield from offered(part.teacher, sampled, asked, part.views.plan, seconds)


def offered(
    teacher: "Teacher", sampled: Sampled, asked: Sequence[tuple[str, str, int | None]], plan: Plan, seconds: float
) -> Iterator[Alternative]:
    """What else a teacher might give of the views of `plan`; `asked` are targets, codecs and kept tokens.

    Codecs are tried on the first samples, and those with codebooks on as many as there is time for.
    """
    likely = [name for name in ("logits", "pooled", "cls", "layer_mean") if name in teacher.outputs]
    targets = list(dict.fromkeys([*(target for target, _, _ in asked), *likely]))[:_MOST_TARGETS]
    deadline, first = time.perf_counter() + seconds, sampled.part(slice(NUM_SAMPLES))
    outputs = _outputs(teacher.only(targets), first)
    for target in targets:
        row_shape, extra = teacher.outputs[target], teacher.extra_tokens.get(target, 0)
        own = [(codec, keep) for name, codec, keep in asked if name == target]
        kept = [keep for keep in _KEPT if has_tokens(row_shape) and max(1, extra) <= keep < row_shape[0]]
        books = () if target in LOGITS else codebook_codecs(row_shape, len(plan.keys))
        named: list[tuple[str, int | None]] = [(codec, None) for codec in (*_CODECS[target in LOGITS], *books)]
        named += [(codec, keep) for codec, _ in named if codec != _PLAIN for keep in kept]
        rows, known = outputs[target], dict[str, tuple[str, Calibration]]()
        for name, keep in dict.fromkeys([*own, *named]):
            with contextlib.suppress(BadInput):  # no codec of such rows
                size = _view_bytes(make_codec(name, row_shape, keep), plan)
                if name not in known:
                    codec = make_codec(name, row_shape)
                    if codec.num_centroids:
                        rows = _more(teacher.only([target]), rows, sampled, codec, deadline)
                    known[name] = _error(codec, rows, first), calibration_of(codec, rows, len(plan.keys))
                yield Alternative(target, name, keep, size, known[name][0], (name, keep) in own, known[name][1])


def _more(teacher: "Teacher", rows: Features, sampled: Sampled, codec: Codec, deadline: float) -> Features:
    """The rows, and those of further samples: as many as codebooks want, or as are there, until it is time."""
    (target,), parts, start = teacher.outputs, [rows], len(rows.vectors)
    most = min(len(sampled.keys), samples_to_learn(codec, teacher.outputs[target], NUM_SAMPLES))
    most = min(most, _MOST_BYTES // rows.vectors[:1].nbytes)
    taken = 0.0
    while start < most and (begun := time.perf_counter()) + taken < deadline:
        some = sampled.part(slice(start, min(most, start + NUM_SAMPLES)))
        parts.append(_outputs(teacher, some)[target])
        start, taken = start + NUM_SAMPLES, time.perf_counter() - begun
    return Features.join(parts)


def _outputs(teacher: "Teacher", sampled: Sampled) -> Mapping[str, Features]:
    valid = teacher.inputs.valid({name: rows.cpu() for name, rows in sampled.fields.items()})
    valid = None if valid is None else valid.to(sampled.device)
    outputs = forward(teacher, sampled.fields, sampled.device, sampled.precision)
    return {target: without_padding(outputs[target].float(), valid) for target in teacher.outputs}


def _error(codec: Codec, rows: Features, sampled: Sampled) -> str:
    if codec.num_centroids:
        return unseen_error(codec, rows, NUM_SAMPLES)
    rows = rows[: len(sampled.keys)]
    vectors: Tensor = rows.content().vectors
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
