"""Codebooks: what pq and rq share: centroids trained once, a byte a code, and how they are kept and checked."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from shards.codec_error import cosine_error, variance_lost
from shards.codecs.base import Codec, Encoded
from shards.codecs.nearest import Books, books_of
from shards.errors import RESTORE, Damaged

CODES = "codes"
"""The name of the only array."""
MOST_CENTROIDS = 256
"""What a byte names."""
Placed = TypeVar("Placed", Tensor, Books)


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
    _placed: dict[tuple[str, torch.device], Any] = field(default_factory=dict, repr=False, compare=False)
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
        return replace(self, centroids=found["centroids"], errors=tuple(found["errors"].tolist()), _placed={})

    def codes(self, stored: Encoded) -> UInt8[Tensor, "batch *tokens codebooks"]:
        """The indices themselves, which an objective may predict."""
        return stored[CODES]

    def indices(self, stored: Encoded) -> Int32[Tensor, "batch *tokens codebooks"]:
        """The codes as indices of `table`; the reader refuses a code beyond its codebook (`shards/gathering.py`)."""
        codes = stored[CODES]
        first = self.num_centroids * torch.arange(self.num_codes, dtype=torch.int32, device=codes.device)
        return codes.int() + first

    def table(self, device: torch.device) -> Float[Tensor, "entries width"]:
        """All centroids, one codebook after the other."""
        assert self.centroids is not None, "this codec was not calibrated"
        centroids = self.centroids
        return self.placed("table", device, lambda: centroids.flatten(0, 1).to(device))

    def books(self, device: torch.device) -> Books:
        """All codebooks as `nearest` takes them."""
        assert self.centroids is not None, "this codec was not calibrated"
        centroids = self.centroids
        return self.placed("books", device, lambda: books_of(centroids).to(device))

    def placed(self, name: str, device: torch.device, make: Callable[[], Placed]) -> Placed:
        """What `make` puts on `device`, made once and not with every batch."""
        if (name, device) not in self._placed:
            placed = make()
            if isinstance(placed, FakeTensor):  # a step that --max_memory counts has no values to keep
                return placed
            self._placed[name, device] = placed
        found: Placed = self._placed[name, device]
        return found

    def book(self, number: int, device: torch.device) -> Float[Tensor, "centroids width"]:
        """The centroids of one codebook."""
        return self.table(device)[number * self.num_centroids :][: self.num_centroids]

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
