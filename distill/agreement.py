"""How well two towers agree before anything is trained: linear CKA, and how many nearest neighbours they share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

NEIGHBOURS = 10


def linear_cka(x: Float[Tensor, "samples width"], y: Float[Tensor, "samples other"]) -> float:
    """|Y^T X|^2 / (|X^T X| |Y^T Y|) of centred rows, 0 to 1 (Kornblith et al. 2019, arXiv:1905.00414, equation 3)."""
    x, y = (rows.double() - rows.double().mean(0) for rows in (x, y))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return ((y.T @ x).norm() ** 2 / scale).item() if scale > 0 else 0.0


def mutual_knn(x: Float[Tensor, "samples width"], y: Float[Tensor, "samples other"], k: int = NEIGHBOURS) -> float:
    """The share of a sample's k nearest neighbours, by cosine, that both spaces have in common (Huh et al. 2024,
    arXiv:2405.07987, section 2); by chance k / (samples - 1)."""
    k, nearest = min(k, len(x) - 1), []
    for rows in (x, y):
        cosines = F.normalize(rows.double(), dim=1) @ F.normalize(rows.double(), dim=1).T
        chosen = cosines.fill_diagonal_(-torch.inf).topk(k, dim=1).indices
        nearest.append(torch.zeros_like(cosines, dtype=torch.bool).scatter_(1, chosen, True))
    return ((nearest[0] & nearest[1]).sum(1).double() / k).mean().item()
