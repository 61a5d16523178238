"""Calibrate: a codec's statistics from the first samples of the plan, made once and kept with the target set."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from safetensors.torch import save

from extract.pipeline import Extraction, kept_rows
from extract.plan_targets import Part, TargetSetJob
from extract.unseen import UNSEEN_SAMPLES, UNSEEN_SHARDS, Unseen
from extract.views import ViewShard
from shards.codecs.base import Codec
from shards.codecs.channels import CALIBRATION_SAMPLES
from shards.codecs.features import Features
from shards.commit import write_atomically
from shards.decode import spread, with_statistics
from shards.errors import BadInput
from shards.layout import CALIBRATION, inside, targetset_is_whole
from shards.reader import TargetSet

VECTORS_A_CENTROID = 40
"""That train a codebook: with fewer it is made of single vectors (faiss asks for 39)."""
_LEAST_UNSEEN = 2
"""Vectors: a single one has no variance to lose."""


def calibrated(extraction: Extraction) -> Extraction:
    """`extraction` with every codec ready to encode; what had to be calibrated is on the disk."""
    for part in extraction.parts:
        waiting = [job for job in part.targets if job.codec.has_statistics]
        missing = [job for job in waiting if not (job.folder / CALIBRATION).exists()]
        rows, end = _first_rows(extraction, part, missing, 0, CALIBRATION_SAMPLES) if missing else ({}, 0)
        for job in missing:
            learnt, end_of_all = _enough(extraction, part, job, rows[job.target], end)
            codec = job.codec.calibrate(learnt)
            unseen = _unseen(extraction, part, replace(job, codec=codec), end_of_all) if codec.num_centroids else None
            metadata = None if unseen is None else unseen.metadata()
            write_atomically(inside(job.folder, CALIBRATION), save(codec.state(), metadata))
    parts = [replace(part, targets=[_with_calibration(job) for job in part.targets]) for part in extraction.parts]
    return replace(extraction, parts=parts)


def _with_calibration(job: TargetSetJob) -> TargetSetJob:
    if not job.codec.has_statistics:
        return job
    path = inside(job.folder, CALIBRATION)
    if targetset_is_whole(job.folder):  # a growth encodes with the very statistics of what is there
        path = TargetSet(job.folder).checked(CALIBRATION)
    remedy = f"python -m shards remove {job.folder}, then extract again"
    return replace(job, codec=with_statistics(job.codec, path, remedy))


def _first_rows(
    extraction: Extraction, part: Part, jobs: list[TargetSetJob], first: int, most: int
) -> tuple[dict[str, torch.Tensor], int]:
    """A teacher's targets of the samples `first` to `most` of view 0, on the CPU; their shard extracts them again.

    All tokens of them that are no padding, also where few are kept: so a kept row is the same whatever is drawn.
    Beside them the number of the plan's samples up to the last of these, skipped ones counted.
    """
    part = replace(part, targets=[*{job.target: job for job in jobs}.values()])
    rows: dict[str, list[torch.Tensor]] = {job.target: [] for job in part.targets}
    count, end, plan = 0, 0, extraction.views.plan
    for shard in _first_views(extraction, part, range(plan.num_shards)):
        usable = kept_rows(shard)
        wanted = usable[max(0, first - count) : most - count]
        for target, vectors in _targets(extraction, part, shard, wanted):
            rows[target].append(vectors)
        end = plan.rows(shard.shard)[wanted[-1]] + 1 if wanted else end
        count += len(usable)
        if count >= most:
            break
    if not count:
        raise BadInput("--on_error skip: no sample of view 0 could be read; check --data")
    return {target: torch.cat(parts) for target, parts in rows.items() if parts}, end


def _first_views(extraction: Extraction, part: Part, shards: Sequence[int]) -> Iterator[ViewShard]:
    """View 0 of these shards, as the part's teacher is fed with it."""
    for (shard,) in extraction.shards([((0, number), [part]) for number in shards]):
        yield shard


def _targets(
    extraction: Extraction, part: Part, shard: ViewShard, wanted: Sequence[int]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each target of the part and its vectors of the rows `wanted`, batch by batch, on the CPU."""
    some = set(wanted)
    batches = [[row for row in batch if row in some] for batch in extraction.batches(shard)]
    for of_jobs in extraction.each(partial(extraction.rows_of, shard, part), list(filter(None, batches))):
        for job, features in zip(part.targets, of_jobs, strict=True):
            yield job.target, features.content().vectors.cpu()


def _unseen(extraction: Extraction, part: Part, job: TargetSetJob, end: int) -> Unseen | None:
    """What the calibrated codec of `job` loses of samples behind the plan's first `end`; None where there are none.

    They lie at even distances in shards at even distances.
    """
    plan, part = extraction.views.plan, replace(part, targets=[job])
    behind = range(end // plan.shard_size, plan.num_shards)
    shards = [behind[number] for number in spread(len(behind), UNSEEN_SHARDS)]
    samples, parts = 0, list[torch.Tensor]()
    for shard in _first_views(extraction, part, shards):
        usable = [row for row in kept_rows(shard) if plan.rows(shard.shard)[row] >= end]
        wanted = [usable[number] for number in spread(len(usable), UNSEEN_SAMPLES // len(shards))]
        samples += len(wanted)
        parts += [vectors for _, vectors in _targets(extraction, part, shard, wanted)]
    if sum(map(_num_vectors, parts)) < _LEAST_UNSEEN:
        return None
    vectors = torch.cat(parts)
    return Unseen(samples, job.codec.error(vectors if job.keep_tokens is None else Features(vectors)))


def _enough(
    extraction: Extraction, part: Part, job: TargetSetJob, rows: torch.Tensor, end: int
) -> tuple[torch.Tensor, int]:
    """`rows`, and of codebooks those of further samples until there are 40 vectors a centroid; BadInput for too few.

    A vector a sample is 256 of the first samples, as many as a codebook has centroids: it would learn them by heart.
    How many there are follows from `job` alone: another codec in the same command changes no byte. `end`, too, is then
    behind the last of them.
    """
    most, num_samples = samples_for(job.codec, _num_vectors(rows)), len(extraction.views.plan.keys)
    if most > CALIBRATION_SAMPLES and num_samples > CALIBRATION_SAMPLES:
        further, end_of_further = _first_rows(extraction, part, [job], CALIBRATION_SAMPLES, most)
        rows, end = torch.cat([rows, *further.values()]), max(end, end_of_further)
    check_vectors(job, num_samples, _num_vectors(rows))
    return rows, end


def samples_for(codec: Codec, found: int) -> int:
    """How many of the first samples a codec is calibrated from, where the first 256 have `found` vectors."""
    wanted = VECTORS_A_CENTROID * codec.num_centroids
    return CALIBRATION_SAMPLES if found >= wanted else -(-wanted * CALIBRATION_SAMPLES // found)


def check_vectors(job: TargetSetJob, num_samples: int, found: int) -> None:
    """BadInput where a codec's codebooks have more centroids than the samples have vectors."""
    if found < (least := job.codec.num_centroids):
        has = f"{num_samples} samples have {found} vectors of {job.target}"
        remedy = "give more samples, or --codec int8"
        raise BadInput(f"--codec {job.codec.name}: {has}, fewer than a codebook's {least} centroids; {remedy}")


def _num_vectors(rows: torch.Tensor) -> int:
    return rows.numel() // rows.shape[-1]
