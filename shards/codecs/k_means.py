"""K-means: codebooks, and the rotation that suits them, as faiss trains them: on one thread, from a fixed seed.

Sums of several threads end in other bits, and a target set that is made again has the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shards.codecs.nearest import books_of, nearest
from shards.errors import BadInput

_TRAINED = 256
"""At most so many vectors a centroid train it; more change little (faiss's own bound)."""
_TURNS, _TURNED = 20, 64
"""Turns that optimise a rotation, and vectors a centroid that they see."""


def train(
    vectors: Float[Tensor, "rows width"], num_centroids: int
) -> tuple[Float[Tensor, "centroids width"], Int64[Tensor, " rows"], float]:
    """A codebook by k-means, each vector's code, and their mean squared distance.

    With no more vectors than centroids they are the vectors, again and again: enough for a plan's trial, and exact.
    """
    if len(vectors) <= num_centroids:
        centroids = vectors[torch.arange(num_centroids) % len(vectors)].clone()
    else:
        centroids = _k_means(vectors, num_centroids)
    codes = nearest(vectors.unsqueeze(0), books_of(centroids.unsqueeze(0)))[0]
    return centroids, codes, float((vectors - centroids[codes]).double().square().sum(1).mean())


def _k_means(vectors: Float[Tensor, "rows width"], num_centroids: int) -> Float[Tensor, "centroids width"]:
    settings: dict[str, Any] = {"niter": 25, "seed": 1234, "min_points_per_centroid": 1}
    with _faiss() as faiss:
        trained = faiss.Kmeans(vectors.shape[1], num_centroids, max_points_per_centroid=_TRAINED, **settings)
        trained.train(np.ascontiguousarray(vectors.numpy(), np.float32))
    return torch.from_numpy(np.array(trained.centroids, np.float32))


def optimised_parts(
    vectors: Float[Tensor, "rows dim"], num_parts: int, num_centroids: int, start: Float[Tensor, "dim dim"]
) -> Float[Tensor, "dim dim"]:
    """A rotation whose rows, in parts of equal width, lose less than those of `start`, an orthogonal matrix.

    Codebooks for the rotation and the rotation for the codebooks in turns (Ge et al. 2013, algorithm 1).
    """
    num_bits = (num_centroids - 1).bit_length()
    if len(vectors) <= 1 << num_bits:
        return start
    with _faiss() as faiss:
        optimised = faiss.OPQMatrix(vectors.shape[1], num_parts)
        optimised.pq = quantiser = faiss.ProductQuantizer(vectors.shape[1], num_parts, num_bits)
        quantiser.cp.min_points_per_centroid = 1  # it would warn below 39 of them
        optimised.niter, optimised.max_train_points = _TURNS, _TURNED << num_bits
        faiss.copy_array_to_vector(np.ascontiguousarray(start.numpy(), np.float32).ravel(), optimised.A)
        optimised.train(np.ascontiguousarray(vectors.numpy(), np.float32))
        return torch.from_numpy(faiss.vector_to_array(optimised.A).reshape(start.shape).copy())


@contextmanager
def _faiss() -> Iterator[Any]:
    """The library on one thread; BadInput where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise BadInput("--codec pq and rq train their codebooks with faiss: pip install 'teacher-shards[pq]'") from None
    from threadpoolctl import threadpool_limits

    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        with threadpool_limits(1):
            yield faiss
    finally:
        faiss.omp_set_num_threads(threads)
