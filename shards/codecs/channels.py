"""Channel statistics: what standardises features before they are quantised, taken once from a fixed calibration set.

A few channels of a transformer's features are tens of times larger than the rest (Dettmers et al. 2022,
arXiv:2208.07339, section 3); with every channel at mean 0 and deviation 1 a token's numbers share one scale.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from shards.codecs.base import Codec
from shards.errors import RESTORE, Damaged

CALIBRATION_SAMPLES = 256
"""The first samples of the plan, view 0."""
_SMALLEST_STD = 1e-6


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel (last axis), float32."""

    mean: Float[Tensor, " channels"]
    std: Float[Tensor, " channels"]
    _placed: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def on(self, device: torch.device) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Mean and deviation on `device`, copied there once and not with every batch."""
        if device not in self._placed:
            self._placed[device] = (self.mean.to(device), self.std.to(device))
        return self._placed[device]

    @classmethod
    def of(cls, rows: Float[Tensor, "batch ..."]) -> "ChannelStatistics":
        """The statistics over all axes but the last, in float64; a channel that never varies keeps its scale."""
        flat = rows.double().flatten(0, -2)
        std = flat.std(0, correction=0)
        return cls(flat.mean(0).float(), torch.where(std > _SMALLEST_STD, std, 1.0).float())

    @classmethod
    def from_state(cls, state: dict[str, Tensor], channels: int) -> "ChannelStatistics":
        """The statistics that `state` holds; Damaged where they are not of so many channels."""
        if any(state.get(name) is None or state[name].shape != (channels,) for name in ("mean", "std")):
            found = {name: tuple(value.shape) for name, value in state.items()}
            raise Damaged(f"the calibration holds {found}, expected mean and std of {channels} channels; {RESTORE}")
        return cls(state["mean"], state["std"])


@dataclass(frozen=True)
class Standardised(Codec):
    """What the codecs that standardise channels share: their statistics, and how these are kept."""

    row_shape: tuple[int, ...]
    statistics: ChannelStatistics | None = None
    has_statistics = True

    def calibrate(self, rows: Float[Tensor, "batch ..."]) -> "Codec":
        """This codec with the statistics of `rows`."""
        return replace(self, statistics=ChannelStatistics.of(rows))

    def with_state(self, state: dict[str, Tensor]) -> "Codec":
        """This codec with the statistics kept beside a target set."""
        return replace(self, statistics=ChannelStatistics.from_state(state, self.row_shape[-1]))

    def state(self) -> dict[str, Tensor]:
        """The statistics to keep beside the target set; its identity need not hold them, for they follow from it."""
        assert self.statistics is not None, "this codec was not calibrated"
        return {"mean": self.statistics.mean, "std": self.statistics.std}

    def standardise(self, rows: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """`rows` with every channel at mean 0 and deviation 1, as far as the statistics are theirs."""
        assert self.statistics is not None, "this codec was not calibrated"
        mean, std = self.statistics.on(rows.device)
        return (rows.float() - mean) / std

    def restore(self, standard: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The inverse of `standardise`."""
        assert self.statistics is not None, "this codec was not calibrated"
        mean, std = self.statistics.on(standard.device)
        return torch.addcmul(mean, standard, std)
