"""K-means: a codebook, as faiss trains it: on one thread, from a fixed seed, so that it has the same bytes again."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shards.codecs.nearest import books_of, nearest, row_blocks
from shards.errors import BadInput

TRAINED = 256
"""At most so many vectors a centroid train it; more change little (faiss's own bound)."""


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
    books = books_of(centroids.unsqueeze(0))
    codes = torch.cat([nearest(part.unsqueeze(0), books)[0] for part in row_blocks(vectors, num_centroids)])
    return centroids, codes, float((vectors - centroids[codes]).double().square().sum(1).mean())


def _k_means(vectors: Float[Tensor, "rows width"], num_centroids: int) -> Float[Tensor, "centroids width"]:
    try:
        import faiss
    except ImportError:
        raise BadInput("--codec pq and rq train their codebooks with faiss: pip install 'teacher-shards[pq]'") from None
    from threadpoolctl import threadpool_limits

    threads = faiss.omp_get_max_threads()
    settings: dict[str, Any] = {"niter": 25, "seed": 1234, "min_points_per_centroid": 1}
    try:
        faiss.omp_set_num_threads(1)  # sums of several threads end in other bits
        with threadpool_limits(1):
            trained = faiss.Kmeans(vectors.shape[1], num_centroids, max_points_per_centroid=TRAINED, **settings)
            trained.train(np.ascontiguousarray(vectors.numpy(), np.float32))
    finally:
        faiss.omp_set_num_threads(threads)
    return torch.from_numpy(np.array(trained.centroids, np.float32))
