"""Text probes: how near a student of texts is to its teacher, and what its embeddings tell of the texts' classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from evaluate.config import EvaluateConfig
from evaluate.preset import OptimiserSettings, resolve
from evaluate.student import TrainedStudent
from evaluate.tasks import knn
from evaluate.tasks.linear import fit, make_head, share_correct
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet, ViewSet

BATCH = 64
Embeddings = Float[Tensor, "lines width"]


class Probes(NamedTuple):
    """Shares of the lines whose class is told: by a vote of the nearest lines, and by a linear probe."""

    knn: float
    linear: float


@dataclass(frozen=True)
class Lines:
    """Labelled texts in memory, the shortest first, so that a batch has little padding."""

    fields: dict[str, Tensor]
    labels: Int64[Tensor, " lines"]
    num_classes: int
    taught: Embeddings
    """The teacher's embeddings."""

    @classmethod
    def of(cls, folder: Path) -> "Lines":
        """What the view set in `folder` and its only target set hold."""
        viewset, (path,) = ViewSet(folder), folder.glob("targets/*/targetset.json")
        targetset, samples = TargetSet(path.parent), viewset.usable
        rows = viewset.rows(0, samples.tolist())
        order = np.argsort(rows["length"], kind="stable")
        fields = {name: torch.from_numpy(of_field[order]) for name, of_field in rows.items()}
        labels = torch.from_numpy(viewset.labels(0, samples.tolist())[order])
        taught = read_decoded(targetset, codec_of(targetset), 0, samples)[torch.from_numpy(order)]
        return cls(fields, labels, len(viewset.class_names or ()), taught)


def embed(student: TrainedStudent, lines: Lines) -> Embeddings:
    """The student's embeddings: the mean of its last block's tokens."""
    pooled = student.only("pooled")
    starts = range(0, len(lines.labels), BATCH)
    batches = ({name: rows[start : start + BATCH] for name, rows in lines.fields.items()} for start in starts)
    return torch.cat([pooled(student.inputs.cut(batch))["pooled"] for batch in batches])


def distance(student: TrainedStudent, targetset: TargetSet) -> float:
    """The mean squared difference to the target set's rows, of full blocks: no token is padding."""
    viewset, target = ViewSet(targetset.folder.parents[1]), targetset.manifest.target
    only, codec, total = student.only(target), codec_of(targetset), 0.0
    for samples in np.split(viewset.usable, range(BATCH, len(viewset.usable), BATCH)):
        rows = {name: torch.from_numpy(of_field) for name, of_field in viewset.rows(0, samples.tolist()).items()}
        difference = only(rows)[target] - read_decoded(targetset, codec, 0, samples)
        total += difference.double().square().mean((1, 2)).sum().item()
    return total / len(viewset.usable)


def probes(bank: Lines, queries: Lines, of_bank: Embeddings, of_queries: Embeddings) -> Probes:
    """How well the queries' classes are told by their own embeddings and the bank's, as `evaluate` tells them."""
    flags = EvaluateConfig()
    voting = resolve("knn", knn.Settings, flags, lambda: "")
    cosines, neighbours = knn.nearest(of_queries, of_bank, voting.k)
    classes = knn.vote(cosines, bank.labels[neighbours], bank.num_classes, voting.temperature)
    torch.manual_seed(0)
    probe = make_head(of_bank.shape[1], bank.num_classes)
    fit(probe, of_bank, bank.labels, resolve("linear", OptimiserSettings, flags, lambda: ""), seed=0)
    agreed = (classes == queries.labels).double().mean().item()
    return Probes(agreed, share_correct(probe, of_queries, queries.labels))
