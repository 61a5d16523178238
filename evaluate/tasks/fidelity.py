"""fidelity: how near the student comes to the stored outputs of its teacher for the same views.

Agreement and divergence are Stanton et al. 2021, "Does Knowledge Distillation Really Work?" (arXiv:2106.05945), section
3: average top-1 agreement and average predictive KL.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from evaluate.evaluation import Evaluation
from evaluate.pairs import answering
from evaluate.student import check_finite, check_output
from shards.codecs import LOGITS
from shards.codecs.distribution import Distribution
from shards.codecs.features import Features
from shards.command.progress import Progress
from shards.decode import codec_of, decode
from shards.errors import BadInput
from shards.in_order import in_order
from shards.loader import BatchLoader
from shards.reader import Component

TAKES = "pair"
Metrics = dict[str, Float[Tensor, "batch *tokens"]]


def measure(evaluation: Evaluation, settings: None) -> dict[str, Any]:
    """Over view 0: `agreement` and `kl` with stored logits or probabilities, `cosine` and `cka` with features."""
    config = evaluation.config
    viewset, targetset = evaluation.stored.sets(evaluation.config.split)
    student = answering(evaluation.student, targetset)
    viewset = viewset.read_by(student.inputs.reads(viewset.codec))
    target, row_shape = targetset.identity["target"], targetset.row_shape
    shape = check_output(student, target, f"{targetset.folder}: holds the teacher's {target}")
    if shape != row_shape:
        raise BadInput(
            f"{targetset.folder}: the teacher's {target} are {row_shape} a sample, the student's {shape}; give a "
            "--targetset with as many classes (or features)"
        )
    codec, student = codec_of(targetset), student.only(target)
    comparison: Any = LogitComparison() if target in LOGITS else FeatureSimilarity()
    samples = viewset.usable[: config.limit]
    size, num_threads = evaluation.batch_size, evaluation.num_threads
    loader = BatchLoader([Component(viewset, [targetset])], in_order(samples, size), size, num_threads=num_threads)
    with Progress(f"{evaluation.folder.name}: fidelity to {targetset.folder.name}", len(samples)) as progress:
        for batch in loader:
            stored = {name: rows.to(student.device) for name, rows in batch.targets[targetset.folder.name].items()}
            valid = student.inputs.valid(batch.fields)
            taught = decode(codec, stored, None if valid is None else valid.to(student.device))
            rows = student(batch.fields)[target]
            check_finite(rows, target, f"{evaluation.folder}: {viewset.folder.name}")
            comparison.update(taught, rows)
            progress.advance(len(batch.samples))
    metrics = {name: round(value, 6) for name, value in comparison.metrics().items()}
    facts = {"num_samples": len(samples), "data": viewset.folder.name, "split": viewset.identity["split"]}
    return {**metrics, **facts, "targetset": targetset.folder.name}


class LogitComparison:
    """Means over all samples, or their tokens that are no padding, of what `compare_logits` says of each."""

    def __init__(self) -> None:
        self.count, self.sums = 0, dict[str, float]()

    def update(self, teacher: Features, student: Float[Tensor, "batch *tokens classes"]) -> None:
        """One batch more."""
        compared, taught = teacher.beside(student)
        for name, values in compare_logits(taught, compared).items():
            self.sums[name] = self.sums.get(name, 0.0) + values.double().sum().item()
        self.count += math.prod(compared.shape[:-1])

    def metrics(self) -> dict[str, float]:
        """The means so far."""
        return {name: total / self.count for name, total in self.sums.items()}


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
        pairs = torch.cat([x, y], dim=1)
        if self.count == 0:  # sums about the first batch's means: no digits are lost where the means are large
            self.width, self.origin = x.shape[1], pairs.mean(0)
            self.products, self.sums = pairs.new_zeros(()), pairs.new_zeros(())
        pairs = pairs - self.origin
        self.products, self.sums = self.products + pairs.T @ pairs, self.sums + pairs.sum(0)
        self.count += len(pairs)

    def metrics(self) -> dict[str, float]:
        """`cosine` (mean), `cosine_worst_percentile` and `cka`, which is left out where one side never varies."""
        cosines, width = np.concatenate(self.cosines), self.width
        centred = self.products - torch.outer(self.sums, self.sums) / self.count
        parts = centred[:width, :width], centred[width:, width:], centred[:width, width:]
        xx, yy, xy = (part.norm().item() for part in parts)
        metrics = {
            "cosine": float(cosines.mean(dtype=np.float64)),
            "cosine_worst_percentile": float(np.quantile(cosines, 0.01)),
        }
        return metrics | ({"cka": xy**2 / (xx * yy)} if xx * yy > 0 else {})


def compare_logits(
    teacher: Float[Tensor, "batch *tokens classes"] | Distribution, student: Float[Tensor, "batch *tokens classes"]
) -> Metrics:
    """`agreement`, 1 where both have the same first class, `kl`, KL(teacher || student) in nats, and `cosine`.

    Against stored probabilities the KL is over their outcomes, and there is no cosine. Of topk, over its k classes and
    "any other", it is never more than the full one (Cover & Thomas 2006, section 2.7: log-sum inequality); of sample
    it is the divergence from the drawn weights, in the mean more than the full one, and agreement is with the class
    that was drawn most.
    """
    first = student.argmax(-1)
    if isinstance(teacher, Distribution):
        log_p, log_q = teacher.outcomes(), teacher.outcomes_of(student)
        return {"agreement": (teacher.classes[..., 0] == first).float(), "kl": (log_p.exp() * (log_p - log_q)).sum(-1)}
    log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    cosine = F.cosine_similarity(teacher, student, dim=-1)
    return {"agreement": (teacher.argmax(-1) == first).float(), "kl": kl, "cosine": cosine}
