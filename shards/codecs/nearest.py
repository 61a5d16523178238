"""Nearest: the code of a vector is the number of the centroid that is nearest in float64, mostly found in float32.

Float32's rounding hangs on the order in which a kernel adds up, and so on the batch; a row's bytes may not. So float32
decides where the two least scores lie further apart than rounding can move them, and float64 decides the few others.

The score is |c|^2 / 2 - x.c, with x and c seen from a point amid the centroids, as one product of (x, 1). Whatever the
order, it is off by at most (width + 4) u M (M / 2 + |x|) to first order, where u is 2^-24 and M the length of the
longest c (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1: a product, a sum and the
roundings of x, c and |c|^2 / 2 each count u). Two scores may move towards each other; 4 more in the place of 4 cover
the rounding of the bound itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from torch import Tensor

_CPU_BLOCK, _GPU_BLOCK = 1 << 19, 1 << 23
"""Distances that a codec asks for together: 2 MB on a CPU, 32 MB on a GPU."""
_CPU_CACHED = 1 << 17
"""Those that a CPU then looks at again: 512 kB, which the second cache of a core holds."""
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
    scores: Float32[Tensor, "books terms centroids"]
    """The centroids as seen from there, times -1, and half of their squared lengths: times (x, 1) they are scores."""
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
    scores = torch.cat([-seen.float().mT, half_seen.unsqueeze(1)], 1)
    return Books(exact, half, middle, scores, reach)


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
    with_one = torch.cat([seen, seen.new_ones(*seen.shape[:2], 1)], -1)
    codes = torch.empty(seen.shape[:2], dtype=torch.int64, device=seen.device)
    lead, least = torch.empty((2, *seen.shape[:2]), device=seen.device)
    two_least = _two_least_on_a_cpu if seen.device.type == "cpu" else _two_least
    for of_book in zip(with_one, books.scores, codes, least, lead, strict=True):
        two_least(*of_book)
    return codes, lead.sub_(least)


def _two_least(
    rows: Float32[Tensor, "rows terms"],
    book: Float32[Tensor, "terms centroids"],
    codes: Int64[Tensor, " rows"],
    least: Float32[Tensor, " rows"],
    second: Float32[Tensor, " rows"],
) -> None:
    """In `codes` and `least` are the number of the least score and that score, in `second` the least of the others."""
    scores = torch.mm(rows, book)
    codes[:] = scores.argmin(1)
    least[:] = scores.gather(1, codes.unsqueeze(1))[:, 0]
    torch.amin(scores.scatter_(1, codes.unsqueeze(1), torch.inf), 1, out=second)


def _two_least_on_a_cpu(
    rows: Float32[Tensor, "rows terms"],
    book: Float32[Tensor, "terms centroids"],
    codes: Int64[Tensor, " rows"],
    least: Float32[Tensor, " rows"],
    second: Float32[Tensor, " rows"],
) -> None:
    """The same of some rows at a time, whose scores stay in the cache; numpy's argmin compares many at a time, torch's
    one after the other.
    """
    step = max(1, min(len(rows), _CPU_CACHED // book.shape[1]))
    scores, of_codes, of_least = torch.empty(step, book.shape[1]), codes.numpy(), least.numpy()
    every, numbers = np.arange(step), scores.numpy()
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        num = part.stop - start
        torch.mm(rows[part], book, out=scores[:num])
        places = every[:num], numbers[:num].argmin(1, out=of_codes[part])
        of_least[part] = numbers[places]
        numbers[places] = np.inf
        torch.amin(scores[:num], 1, out=second[part])


def row_blocks(rows: Shaped[Tensor, "rows dim"], num_centroids: int) -> Iterator[Tensor]:
    """`rows` some at a time, so that their distances stay small."""
    step = max(1, (_CPU_BLOCK if rows.device.type == "cpu" else _GPU_BLOCK) // num_centroids)
    yield from rows.split(step)
