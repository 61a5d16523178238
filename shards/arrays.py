"""Arrays: the zarr arrays of a set, gathered by row from shard objects, each row checked (`gathering.py`)."""

from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from shards.checked import CheckedFiles
from shards.errors import BadInput
from shards.gathering import gather_checked
from shards.last_views import LastViews
from shards.mapped import MappedArray
from shards.zarrs import ArraySpec


class StoredArrays:
    """Arrays of one set; any number of threads may read."""

    def __init__(self, folder: Path, specs: Mapping[str, ArraySpec], num_views: int, checked: CheckedFiles):
        """`checked` has the shard objects and commit records as a manifest says that they are; Damaged else."""
        self.folder, self.specs, self.num_views, self.checked = folder, specs, num_views, checked
        self._mapped: LastViews[str, MappedArray] = LastViews()

    def gather(
        self,
        view: int,
        samples: Int[np.ndarray, " count"],
        out: Mapping[str, UInt8[np.ndarray, "count row_bytes"]],
        requests: Executor | None = None,
    ) -> None:
        """Copy the rows of `samples` (strictly ascending plan indices) into `out`, one buffer an array."""
        if len(samples) == 0:
            return
        for name, buffer in out.items():
            spec = self.specs[name]
            if samples[0] < 0 or samples[-1] >= spec.num_samples or not 0 <= view < self.num_views:
                raise BadInput(f"{self.folder}: view {view} of samples {samples[0]} to {samples[-1]} is not in it")
            array = self._mapped.get(view, name, self._map)
            gather_checked(self.checked, view, array, samples, buffer, requests)

    def read(self, view: int, samples: Int[np.ndarray, " count"]) -> dict[str, np.ndarray]:
        """The rows of `samples` (strictly ascending): a new array (count, *row_shape) for each stored one."""
        out = {name: np.empty((len(samples), spec.row_bytes), np.uint8) for name, spec in self.specs.items()}
        self.gather(view, samples, out)
        return {name: typed(out[name], spec) for name, spec in self.specs.items()}

    def _map(self, _view: int, name: str) -> MappedArray:
        return MappedArray(self.specs[name])


def typed(buffer: UInt8[np.ndarray, "count row_bytes"], spec: ArraySpec) -> np.ndarray:
    """`buffer` seen as the array's own type and shape, without a copy."""
    return buffer.view(spec.dtype).reshape(len(buffer), *spec.row_shape)
