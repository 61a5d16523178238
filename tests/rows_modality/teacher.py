"""`--teacher rows`: a linear teacher that knows the classes' means."""

import torch

from extract.teachers.base import Teacher, freeze
from rows_modality.modality import RowInput
from rows_modality.network import Linear


def load(spec: str, weights: str | None, image_size: int | None) -> Teacher:
    network = Linear(3)
    network.load_state_dict({"linear.weight": 2 * torch.eye(3, 16), "linear.bias": torch.zeros(3)})
    return freeze("rows", "rows/linear", network, RowInput(0.5), ("a", "b", "c"))
