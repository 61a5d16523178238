"""Nearest: the code of a vector is the number of the centroid that is nearest in float64, mostly found in float32.

Float32's rounding hangs on the order in which a kernel adds up, and so on the batch; a row's bytes may not. So float32
decides where the two least scores lie further apart than rounding can move them, and float64 decides the few others.

The score is |c|^2 / 2 - x.c, with x and c seen from a point amid the centroids. Whatever the order, it is off by at
most (width + 4) u M (M / 2 + |x|) to first order, where u is 2^-24 and M the length of the longest c (Higham 2002,
"Accuracy and Stability of Numerical Algorithms", section 3.1: a product, a sum and the roundings of x, c and |c|^2 / 2
each count u). Two scores may move towards each other; 4 more in the place of 4 cover the rounding of the bound itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from torch import Tensor

_CPU_BLOCK, _GPU_BLOCK = 1 << 19, 1 << 23
"""Distances that are computed together: 2 MB on a CPU, near its caches, 32 MB on a GPU."""
_ULP, _SMALLEST = 2.0**-23, 2.0**-126
"""Twice u, and the number below which rounding is no share of what is rounded."""


@dataclass(frozen=True)
class Books:
    """Codebooks, exactly and as float32 compares them."""

    exact: Float64[Tensor, "books centroids width"]
    half: Float64[Tensor, "books centroids"]
    """Half of their squared lengths; infinite where a centroid repeats one before it, and so never is the nearest."""
    middle: Float32[Tensor, "books 1 width"]
    """A point amid the centroids: where all lie far from 0, nearly all of their digits are the same."""
    opposite: Float32[Tensor, "books width centroids"]
    """The centroids as seen from there, times -1."""
    half_seen: Float32[Tensor, "books centroids"]
    reach: Float32[Tensor, "books 1"]
    """The length of the longest of them."""

    def __getitem__(self, some: slice) -> "Books":
        return Books(*(values[some] for values in vars(self).values()))

    def to(self, device: torch.device) -> "Books":
        """The same on `device`."""
        return Books(*(values.to(device) for values in vars(self).values()))


def books_of(centroids: Float[Tensor, "books centroids width"]) -> Books:
    """What `nearest` asks for; of equal centroids only the lowest can be the nearest, however kernels round."""
    exact = centroids.double()
    half = exact.square().sum(-1).div(2)
    for of_book, book in zip(half, centroids.cpu().numpy(), strict=True):
        repeats = np.ones(len(book), bool)
        repeats[np.unique(book, axis=0, return_index=True)[1]] = False
        of_book[torch.from_numpy(repeats)] = torch.inf
    middle = exact.mean(1, keepdim=True).float()
    seen = exact - middle
    half_seen = torch.where(half.isinf(), half, seen.square().sum(-1).div(2)).float()
    reach = seen.square().sum(-1).amax(-1, keepdim=True).sqrt().float()
    return Books(exact, half, middle, -seen.float().mT.contiguous(), half_seen, reach)


def nearest(vectors: Float[Tensor, "books rows width"], books: Books) -> Int64[Tensor, "books rows"]:
    """The nearest centroid of each vector, in the codebook of its own, the lowest of equals."""
    seen = (vectors - books.middle).float()
    codes, lead = _nearest_in_float32(seen, books)
    reach = books.reach
    bound = (seen.shape[-1] + 8) * _ULP * reach * (seen.square().sum(-1).sqrt() + reach / 2) + _SMALLEST
    unsure = ~(lead > bound + 0 * reach.square())  # of lengths whose squares float32 does not hold: NaN
    if not _multiplies_whole():
        unsure[:] = True
    for number in unsure.any(1).nonzero().flatten().tolist():
        rows = unsure[number].nonzero().flatten()
        products = vectors[number, rows].double() @ books.exact[number].T
        codes[number, rows] = (books.half[number] - products).argmin(-1)
    return codes


def _multiplies_whole() -> bool:
    """Whether products of float32 have all the digits that the bound counts with."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # a program has set one kind of device alone, by torch's newer settings
        return False


def _nearest_in_float32(
    seen: Float32[Tensor, "books rows width"], books: Books
) -> tuple[Int64[Tensor, "books rows"], Float32[Tensor, "books rows"]]:
    """The centroid of the least score, and by how much the second least is above it."""
    codes = torch.empty(seen.shape[:2], dtype=torch.int64, device=seen.device)
    lead = torch.empty(seen.shape[:2], device=seen.device)
    scores = torch.empty(seen.shape[1], books.half_seen.shape[1], device=seen.device)
    for number, of_book in enumerate(seen):
        torch.addmm(books.half_seen[number], of_book, books.opposite[number], out=scores)
        least = _argmin(scores).unsqueeze(1)
        score = scores.gather(1, least)
        codes[number] = least[:, 0]
        lead[number] = scores.scatter_(1, least, torch.inf).amin(1) - score[:, 0]
    return codes, lead


def _argmin(scores: Float32[Tensor, "rows centroids"]) -> Int64[Tensor, " rows"]:
    """numpy's on a CPU, which compares many at a time where torch's compares one after the other."""
    if scores.device.type != "cpu":
        return scores.argmin(1)
    return torch.from_numpy(scores.numpy().argmin(1))


def row_blocks(rows: Shaped[Tensor, "rows dim"], num_centroids: int) -> Iterator[Tensor]:
    """`rows` some at a time, so that their distances stay small."""
    step = max(1, (_CPU_BLOCK if rows.device.type == "cpu" else _GPU_BLOCK) // num_centroids)
    yield from rows.split(step)
