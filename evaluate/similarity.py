"""Similarity: how alike two networks' features are, summed up batch by batch: cosines and linear CKA."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from shards.codecs.features import Features


class FeatureSimilarity:
    """Between a teacher's and a student's feature vectors (last axis), of samples or of all tokens of all samples.

    Linear CKA: Kornblith et al. 2019 (arXiv:1905.00414), section 3, equation 3 with linear kernels. Exact: with X and Y
    centred over all vectors it is |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F), of float64 sums as large as features are wide.
    """

    def __init__(self) -> None:
        self.count = 0
        self.cosines: list[Float[np.ndarray, " vectors"]] = []

    def update(self, teacher: Features, student: Float[Tensor, "batch *rows"]) -> None:
        """One batch more; of a teacher that kept some tokens those alone, and no padding."""
        y, x = (rows.reshape(-1, rows.shape[-1]).double() for rows in teacher.beside(student))
        self.cosines.append(F.cosine_similarity(x, y, dim=1).float().cpu().numpy())
        if self.count == 0:  # sums about the first batch's means: no digits are lost where the means are large
            self.origins = x.mean(0), y.mean(0)
            self.xx, self.yy, self.xy = x.new_zeros(()), x.new_zeros(()), x.new_zeros(())
            self.sum_x, self.sum_y = x.new_zeros(()), x.new_zeros(())
        x, y = x - self.origins[0], y - self.origins[1]
        self.xx, self.yy, self.xy = self.xx + x.T @ x, self.yy + y.T @ y, self.xy + x.T @ y
        self.sum_x, self.sum_y = self.sum_x + x.sum(0), self.sum_y + y.sum(0)
        self.count += len(x)

    def metrics(self) -> dict[str, float]:
        """`cosine` (mean), `cosine_worst_percentile` and `cka`, which is left out where one side never varies."""
        cosines = np.concatenate(self.cosines)
        found = {
            "cosine": float(cosines.mean(dtype=np.float64)),
            "cosine_worst_percentile": float(np.quantile(cosines, 0.01)),
        }
        mean_x, mean_y = self.sum_x / self.count, self.sum_y / self.count
        xx, yy, xy = (
            (products - self.count * torch.outer(left, right)).norm().item()
            for products, left, right in (
                (self.xx, mean_x, mean_x),
                (self.yy, mean_y, mean_y),
                (self.xy, mean_x, mean_y),
            )
        )
        return found | ({"cka": xy**2 / (xx * yy)} if xx * yy > 0 else {})
