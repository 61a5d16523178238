"""Codebooks: what pq and rq share: centroids that are trained once, a byte a code, and how both are kept and checked.

The nearest centroid is chosen in float64: two centroids whose distances differ by float32's rounding alone would
otherwise win in turn as kernels for other batches add up in another order, and a row's bytes hang on its batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped, UInt8
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from shards.codec_error import cosine_error, variance_lost
from shards.codecs.base import Codec, Encoded
from shards.errors import RESTORE, BadInput, Damaged

CODES = "codes"
"""The name of the only array."""
MOST_CENTROIDS = 256
"""What a byte names."""
_CPU_BLOCK, _GPU_BLOCK = 1 << 18, 1 << 25
"""Distances that are computed together: 2 MB in float64 on a CPU, which stay in its cache, 256 MB on a GPU."""
TRAINED = 256
"""At most so many vectors a centroid train it; more change little (faiss's own bound)."""


@dataclass(frozen=True)
class Codebooks(Codec):
    """Rows stored as `num_codes` bytes, each the number of a centroid in a codebook of its own."""

    name: str
    row_shape: tuple[int, ...]
    num_codes: int
    num_centroids: int = MOST_CENTROIDS
    centroids: Float[Tensor, "codebooks centroids width"] | None = None
    errors: tuple[float, ...] = ()
    """The mean squared distance of the calibration's vectors to their nearest centroid, of each codebook."""
    _placed: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)
    _books: dict[torch.device, "Books"] = field(default_factory=dict, repr=False, compare=False)
    has_statistics = True

    @property
    def book_width(self) -> int:
        """The width of a centroid."""
        raise NotImplementedError

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`codes`, a byte each."""
        return {CODES: ("uint8", (*self.row_shape[:-1], self.num_codes))}

    def state(self) -> dict[str, Tensor]:
        """The codebooks, and how far they are from what they were trained on."""
        assert self.centroids is not None, "this codec was not calibrated"
        return {"centroids": self.centroids.contiguous(), "errors": torch.tensor(self.errors)}

    def with_state(self, state: dict[str, Tensor]) -> "Codec":
        """This codec with the codebooks kept beside a target set; Damaged where they are not its own."""
        shapes = {"centroids": (self.num_codes, self.num_centroids, self.book_width), "errors": (self.num_codes,)}
        found = checked(state, shapes)
        return replace(
            self, centroids=found["centroids"], errors=tuple(found["errors"].tolist()), _placed={}, _books={}
        )

    def codes(self, stored: Encoded) -> UInt8[Tensor, "batch *tokens codebooks"]:
        """The indices themselves, which an objective may predict."""
        return stored[CODES]

    def indices(self, stored: Encoded) -> Int64[Tensor, "batch *tokens codebooks"]:
        """The codes as indices of `table`; Damaged where one is beyond its codebook.

        That is looked at on the CPU alone: on a GPU every step would wait for it, and there such a row is NaN.
        """
        codes = stored[CODES]
        has_values = codes.device.type == "cpu" and not isinstance(codes, FakeTensor) and codes.numel()
        beyond = self.num_centroids < MOST_CENTROIDS and has_values
        if beyond and int(codes.max()) >= self.num_centroids:
            found = f"code {int(codes.max())} is beyond the codebook's {self.num_centroids} centroids"
            raise Damaged(f"{found}; {RESTORE}")
        return codes.long() + MOST_CENTROIDS * torch.arange(self.num_codes, device=codes.device)

    def table(self, device: torch.device) -> Float[Tensor, "entries width"]:
        """All centroids, 256 entries a codebook (NaN beyond the last centroid), copied to `device` once."""
        assert self.centroids is not None, "this codec was not calibrated"
        if device not in self._placed:
            missing = self.centroids.new_full((self.num_codes, MOST_CENTROIDS - self.num_centroids, 1), torch.nan)
            whole = torch.cat([self.centroids, missing.expand(-1, -1, self.book_width)], 1)
            placed = whole.flatten(0, 1).to(device)
            if isinstance(placed, FakeTensor):  # a step that --max_memory counts has no values to keep
                return placed
            self._placed[device] = placed
        return self._placed[device]

    def books(self, device: torch.device) -> "Books":
        """All codebooks as `nearest` takes them, made on `device` once."""
        assert self.centroids is not None, "this codec was not calibrated"
        if device not in self._books:
            centroids, half = books_of(self.centroids)
            self._books[device] = (centroids.to(device), half.to(device))
        return self._books[device]

    def book(self, number: int, device: torch.device) -> Float[Tensor, "centroids width"]:
        """The centroids of one codebook."""
        return self.table(device)[number * MOST_CENTROIDS :][: self.num_centroids]

    def error(self, rows: Float[Tensor, "batch ..."]) -> dict[str, float]:
        """Cosines, the largest difference, and the share of the rows' variance that is lost."""
        decoded = self.decode(self.encode(rows))
        return cosine_error(rows.float(), decoded) | {"variance_lost": variance_lost(rows.float(), decoded)}

    def inputs_of(
        self, number: int, rows: Float[Tensor, "rows dim"], codes: UInt8[Tensor, "rows codebooks"]
    ) -> Float[Tensor, "rows width"]:
        """What codebook `number` quantises of `rows`, whose earlier codes are given."""
        raise NotImplementedError

    def scores(
        self, number: int, rows: Float[Tensor, "rows dim"], codes: UInt8[Tensor, "rows codebooks"]
    ) -> Float[Tensor, "rows centroids"]:
        """The log-probability of each centroid of codebook `number`, up to a constant a row, in float32.

        That of a mixture of equal Gaussians at the centroids, whose variance is the quantisation's mean squared error.
        """
        centroids = self.book(number, rows.device)
        spread = centroids.var(0, correction=0).mean()  # where the vectors are their centroids the error is 0
        variance = (1e-3 * spread).clamp(min=max(self.errors[number] / self.book_width, 1e-12))
        with torch.autocast(rows.device.type, enabled=False):
            inputs = self.inputs_of(number, rows.float(), codes)
            return (inputs @ centroids.T - centroids.square().sum(1) / 2) / variance


def checked(state: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """The tensors of `state` that a codec names; Damaged where their shapes are others or a number is not finite."""
    found = {name: tuple(values.shape) for name, values in state.items()}
    if found != shapes or not all(values.is_floating_point() for values in state.values()):
        raise Damaged(f"the calibration holds {found}, expected {shapes}; {RESTORE}")
    if not all(bool(torch.isfinite(values).all()) for values in state.values()):
        raise Damaged(f"the calibration holds codebooks with NaN or infinity; {RESTORE}")
    return dict(state)


Books = tuple[Float64[Tensor, "books centroids width"], Float64[Tensor, "books 1 centroids"]]
"""Centroids, and half of their squared lengths: infinite where a centroid repeats one before it."""


def books_of(centroids: Float[Tensor, "books centroids width"]) -> Books:
    """What `nearest` asks for; of equal centroids only the lowest can be the nearest, however kernels round."""
    half = centroids.double().square().sum(-1).div(2)
    for of_book, book in zip(half, centroids.cpu().numpy(), strict=True):
        repeats = np.ones(len(book), bool)
        repeats[np.unique(book, axis=0, return_index=True)[1]] = False
        of_book[torch.from_numpy(repeats)] = torch.inf
    return centroids.double(), half.unsqueeze(1)


def nearest(vectors: Float64[Tensor, "books rows width"], books: Books) -> Int64[Tensor, "books rows"]:
    """The nearest centroid of each vector, in the codebook of its own, the lowest of equals."""
    centroids, half = books
    return torch.baddbmm(half, vectors, centroids.mT, alpha=-1).argmin(-1)


def row_blocks(rows: Shaped[Tensor, "rows dim"], distances_a_row: int) -> Iterator[Tensor]:
    """`rows` some at a time, so that their distances stay small."""
    step = max(1, (_CPU_BLOCK if rows.device.type == "cpu" else _GPU_BLOCK) // distances_a_row)
    yield from rows.split(step)


def train(
    vectors: Float[Tensor, "rows width"], num_centroids: int
) -> tuple[Float[Tensor, "centroids width"], Int64[Tensor, " rows"], float]:
    """A codebook by k-means (faiss, one thread, a fixed seed), each vector's code, and their mean squared distance.

    With no more vectors than centroids they are the vectors, again and again: enough for a plan's trial, and exact.
    """
    if len(vectors) <= num_centroids:
        centroids = vectors[torch.arange(num_centroids) % len(vectors)].clone()
    else:
        centroids = _k_means(vectors, num_centroids)
    books = books_of(centroids.unsqueeze(0))
    parts = [nearest(part.double().unsqueeze(0), books)[0] for part in row_blocks(vectors, num_centroids)]
    codes = torch.cat(parts)
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


def parse_argument(name: str, argument: str, known: dict[str, str]) -> tuple[int | None, dict[str, str]]:
    """`B,OPTION=VALUE,...` as B (None where it is left out) and the options, as text; ValueError for another form."""
    first, *others = argument.split(",")
    if first and not (first.isdecimal() and int(first) > 0):
        raise ValueError(f"expected {name}:B with a whole number B of bytes a token, found {first!r}")
    options: dict[str, str] = {}
    for option in others:
        key, equals, value = option.partition("=")
        if not equals or key not in known or key in options:
            raise ValueError(f"expected {' or '.join(known.values())} behind {name}:B, found {option!r}")
        options[key] = value
    return int(first) if first else None, options


def centroids_of(options: dict[str, str]) -> int:
    """The number of centroids that `centroids=K` names, 256 without it."""
    value = options.get("centroids", str(MOST_CENTROIDS))
    if not value.isdecimal() or not 2 <= int(value) <= MOST_CENTROIDS:
        raise ValueError(f"centroids must be 2 to {MOST_CENTROIDS}, found {value!r}")
    return int(value)
