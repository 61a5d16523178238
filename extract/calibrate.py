"""Calibrate: a codec's statistics from the first samples of the plan, made once and kept with the target set."""

from dataclasses import replace
from functools import partial

import torch
from safetensors.torch import save

from extract.pipeline import Extraction, kept_rows
from extract.plan_targets import Part, TargetSetJob
from shards.codecs.base import Codec
from shards.codecs.channels import CALIBRATION_SAMPLES
from shards.commit import write_atomically
from shards.decode import with_statistics
from shards.errors import BadInput
from shards.layout import CALIBRATION, inside, targetset_is_whole
from shards.reader import TargetSet

VECTORS_A_CENTROID = 40
"""That train a codebook: with fewer it is made of single vectors (faiss asks for 39)."""


def calibrated(extraction: Extraction) -> Extraction:
    """`extraction` with every codec ready to encode; what had to be calibrated is on the disk."""
    for part in extraction.parts:
        waiting = [job for job in part.targets if job.codec.has_statistics]
        missing = [job for job in waiting if not (job.folder / CALIBRATION).exists()]
        rows = _first_rows(extraction, part, missing, 0, CALIBRATION_SAMPLES) if missing else {}
        for job in missing:
            codec = job.codec.calibrate(_enough(extraction, part, job, rows[job.target]))
            write_atomically(inside(job.folder, CALIBRATION), save(codec.state()))
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
) -> dict[str, torch.Tensor]:
    """A teacher's targets of the samples `first` to `most` of view 0, on the CPU; their shard extracts them again.

    All tokens of them that are no padding, also where few are kept: so a kept row is the same whatever is drawn.
    """
    jobs = [*{job.target: job for job in jobs}.values()]
    part = replace(part, targets=jobs)
    rows: dict[str, list[torch.Tensor]] = {job.target: [] for job in jobs}
    count = 0
    for (shard,) in extraction.shards([(place, [part]) for place in extraction.views.places(1)]):
        usable = kept_rows(shard)
        wanted = set(usable[max(0, first - count) : most - count])
        batches = [[row for row in batch if row in wanted] for batch in extraction.batches(shard)]
        for of_jobs in extraction.each(partial(extraction.rows_of, shard, part), list(filter(None, batches))):
            for job, features in zip(jobs, of_jobs, strict=True):
                rows[job.target].append(features.content().vectors.cpu())
        count += len(usable)
        if count >= most:
            break
    if not count:
        raise BadInput("--on_error skip: no sample of view 0 could be read; check --data")
    return {target: torch.cat(parts) for target, parts in rows.items() if parts}


def _enough(extraction: Extraction, part: Part, job: TargetSetJob, rows: torch.Tensor) -> torch.Tensor:
    """`rows`, and of codebooks those of further samples until there are 40 vectors a centroid; BadInput for too few.

    A vector a sample is 256 of the first samples, as many as a codebook has centroids: it would learn them by heart.
    How many there are follows from `job` alone: another codec in the same command changes no byte.
    """
    most, num_samples = samples_for(job.codec, _num_vectors(rows)), len(extraction.views.plan.keys)
    if most > CALIBRATION_SAMPLES and num_samples > CALIBRATION_SAMPLES:
        further = _first_rows(extraction, part, [job], CALIBRATION_SAMPLES, most)
        rows = torch.cat([rows, *further.values()])
    check_vectors(job, num_samples, _num_vectors(rows))
    return rows


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
