"""Codebooks: how long pq and rq learn theirs, once, before a first shard; and what they leave of vectors not learnt."""

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from extract.calibrate import VECTORS_A_CENTROID, samples_for
from extract.unseen import UNSEEN_SAMPLES
from shards.codecs import make_codec
from shards.codecs.base import Codec
from shards.codecs.channels import CALIBRATION_SAMPLES
from shards.codecs.features import Features
from shards.codecs.k_means import TRAINED

_TIMED = (1.25, 2.5)
"""Vectors a centroid of the two trainings that are timed; time grows with their number on a straight line."""
_LEAST = 2
"""Vectors a centroid: of fewer nearly every vector is a centroid."""


@dataclass(frozen=True)
class Calibration:
    """What a codec's statistics are taken from."""

    samples: int = 0
    """Of view 0; 0 where it needs none."""
    vectors: int = 0
    seconds: float = 0.0
    """Of the training of its codebooks alone."""
    unseen: int = 0
    """Further samples, which tell what codebooks lose."""


def vectors_a_sample(rows: Features) -> float:
    """How many vectors a sample has that are no padding, on average."""
    content = rows.content().vectors
    return content.numel() / content.shape[-1] / len(rows.vectors)


def codebook_codecs(row_shape: tuple[int, ...], num_samples: int) -> Sequence[str]:
    """The codec of codebooks to offer for such rows: pq of about a byte for eight channels.

    None without faiss, for a width that no such number divides, or where the samples have fewer vectors than centroids.
    """
    if importlib.util.find_spec("faiss") is None:
        return ()
    codec = make_codec("pq", row_shape)
    (stored,) = codec.arrays().values()
    fits = 16 * stored[1][-1] >= row_shape[-1] and num_samples * _vectors(row_shape) >= codec.num_centroids
    return (codec.name,) if fits else ()


def calibration_of(codec: Codec, rows: Features, num_samples: int) -> Calibration:
    """Samples and vectors that the codec's statistics take of `num_samples` like `rows`, and how long that trains."""
    if not codec.has_statistics:
        return Calibration()
    each = vectors_a_sample(rows)
    samples = min(num_samples, samples_for(codec, max(1, round(CALIBRATION_SAMPLES * each))))
    vectors = round(samples * each)
    unseen = min(UNSEEN_SAMPLES, num_samples - samples) if codec.num_centroids else 0
    return Calibration(samples, vectors, _training_seconds(codec, rows.vectors.shape[-1], vectors), unseen)


def _training_seconds(codec: Codec, width: int, num_vectors: int) -> float:
    """By two short trainings on random vectors: k-means makes as many rounds whatever they are."""
    if not codec.num_centroids:
        return 0.0
    drawn, timed = torch.Generator().manual_seed(0), []
    for share in _TIMED:
        rows = torch.randn(round(share * codec.num_centroids), width, generator=drawn)
        start = time.perf_counter()
        codec.calibrate(rows)
        timed.append((len(rows), time.perf_counter() - start))
    (few, first), (more, second) = timed
    each = max(0.0, second - first) / (more - few)
    return max(0.0, first - few * each) + each * min(num_vectors, TRAINED * codec.num_centroids)


def unseen_error(codec: Codec, rows: Features, num_held: int) -> str:
    """The mean cosine of the last samples' vectors, a quarter and at most `num_held`, to their decoded ones.

    The codec learns from the others. Where these are fewer than a run would take it will lose less than that: `>=`.
    """
    held = max(1, min(num_held, len(rows.vectors) // 4))
    learnt = rows[: len(rows.vectors) - held].content().vectors
    num = learnt.numel() // learnt.shape[-1]
    if num < _LEAST * codec.num_centroids:
        return "-"
    cosine = codec.calibrate(learnt.cpu()).error(rows[-held:].content().vectors)["cosine_mean"]
    return f"{'' if num >= VECTORS_A_CENTROID * codec.num_centroids else '>='}{cosine:.5f}"


def samples_to_learn(codec: Codec, row_shape: tuple[int, ...], num_held: int) -> int:
    """Samples that `unseen_error` asks for at most."""
    return -(-VECTORS_A_CENTROID * codec.num_centroids // _vectors(row_shape)) + num_held


def _vectors(row_shape: tuple[int, ...]) -> int:
    return int(torch.Size(row_shape[:-1]).numel())
