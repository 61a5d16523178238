"""How views of rows are made, and what a network takes of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from extract.modalities.base import InputSpec, ViewMaker, ViewRequest
from extract.modalities.draws import Uniform
from extract.sources.base import Sample
from rows_modality.views import WIDTH, RowCodec


@dataclass(frozen=True)
class RowInput(InputSpec):
    scale: float = 1.0
    modality: ClassVar[str] = "row"

    def prepare(self, fields: Any) -> dict[str, torch.Tensor]:
        return {"rows": fields["row"] * self.scale}

    def valid(self, fields: Any) -> None:
        return None

    def example(self) -> dict[str, torch.Tensor]:
        return {"row": torch.zeros(1, WIDTH)}

    def describe(self) -> dict[str, Any]:
        return {"scale": self.scale}


@dataclass(frozen=True)
class RowViews(ViewMaker):
    noise: float
    needs: ClassVar[frozenset[str]] = frozenset({"texts", "numbers"})
    bytes_a_view: ClassVar[float] = 2048.0

    @property
    def codec(self) -> RowCodec:
        return RowCodec(self.noise > 0)

    @property
    def all_alike(self) -> bool:
        return self.noise == 0

    def describe(self) -> dict[str, Any]:
        return {"noise": self.noise, "seed": 0}

    def flags(self) -> dict[str, str | int]:
        return {"view": f"row:noise={self.noise}"}

    def make(self, sample: Sample, view: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        uniform = Uniform(0, sample.key, view)
        numbers = [float(word) + uniform(-self.noise, self.noise) for word in sample.texts[0].split()]
        return {"row": np.array(numbers, np.float32)}, {"noise": self.noise}


def maker_of(request: ViewRequest) -> RowViews:
    if request.spec is None:
        return RowViews((request.stored or {}).get("noise", 0.1 if request.training else 0.0))
    return RowViews(float(request.spec.partition("=")[2]))


def input_size(request: ViewRequest) -> None:
    return None


def input_of(where: str, described: dict[str, Any], folder: Path | None) -> RowInput:
    return RowInput(described["scale"])


def default_input(codec: RowCodec) -> RowInput:
    return RowInput()


def plain_maker(inputs: RowInput) -> RowViews:
    return RowViews(0.0)
