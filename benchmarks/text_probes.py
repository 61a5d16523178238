"""Text probes: how near a student of texts is to its teacher, and what its embeddings tell of the texts' classes."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from evaluate.config import EvaluateConfig
from evaluate.preset import OptimiserSettings, resolve
from evaluate.student import TrainedStudent
from evaluate.tasks import knn
from evaluate.tasks.linear import fit, make_head, share_correct
from extract.modalities.token_source import packed
from extract.modalities.tokenizer import TextTokenizer
from extract.sources import open_source
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
    """Labelled texts as tokens in memory, the shortest first, so that a batch has little padding."""

    fields: dict[str, Tensor]
    labels: Int64[Tensor, " lines"]
    num_classes: int

    @classmethod
    def of(cls, data: str, split: str, limit: int, size: int, tokenizer: TextTokenizer) -> "Lines":
        """The first `limit` texts of a split, cut off after `size` tokens."""
        with tempfile.TemporaryDirectory() as scratch:
            source = packed(open_source(data, split, None, limit), tokenizer, size, "none", Path(scratch), False)
            rows = [source.fetch(number) for number in range(len(source.keys))]
        rows.sort(key=lambda row: int(row[0]["length"]))
        fields = {name: torch.from_numpy(np.stack([row[name] for row, _ in rows])) for name in rows[0][0]}
        return cls(fields, torch.tensor([label for _, label in rows]), len(source.class_names or ()))


def embed(student: TrainedStudent, lines: Lines) -> Embeddings:
    """The student's embeddings: the mean of its last block's tokens."""
    pooled = student.only("pooled")
    starts = range(0, len(lines.labels), BATCH)
    batches = ({name: rows[start : start + BATCH] for name, rows in lines.fields.items()} for start in starts)
    return torch.cat([pooled(student.inputs.cut(batch))["pooled"] for batch in batches])


def full_blocks(viewset: ViewSet) -> Int[np.ndarray, " blocks"]:
    """The samples without padding: the last block of a stream may have some."""
    rows = viewset.rows(0, viewset.usable.tolist())
    return viewset.usable[rows["length"] == rows["tokens"].shape[1]]


def distance(student: TrainedStudent, targetset: TargetSet) -> float:
    """The mean squared difference to the target set's rows, of full blocks."""
    viewset, target = ViewSet(targetset.folder.parents[1]), targetset.manifest.target
    only, codec, total, blocks = student.only(target), codec_of(targetset), 0.0, full_blocks(viewset)
    for samples in np.split(blocks, range(BATCH, len(blocks), BATCH)):
        rows = {name: torch.from_numpy(of_field) for name, of_field in viewset.rows(0, samples.tolist()).items()}
        difference = only(rows)[target] - read_decoded(targetset, codec, 0, samples)
        total += difference.double().square().mean((1, 2)).sum().item()
    return total / len(blocks)


def probes(student: TrainedStudent, bank: Lines, queries: Lines) -> Probes:
    """How well the queries' classes are told by their embeddings and the bank's, as `evaluate` tells them."""
    of_bank, of_queries, flags = embed(student, bank), embed(student, queries), EvaluateConfig()
    voting = resolve("knn", knn.Settings, flags, lambda: "")
    cosines, neighbours = knn.nearest(of_queries, of_bank, voting.k)
    classes = knn.vote(cosines, bank.labels[neighbours], bank.num_classes, voting.temperature)
    torch.manual_seed(0)
    probe = make_head(of_bank.shape[1], bank.num_classes)
    fit(probe, of_bank, bank.labels, resolve("linear", OptimiserSettings, flags, lambda: ""), seed=0)
    agreed = (classes == queries.labels).double().mean().item()
    return Probes(agreed, share_correct(probe, of_queries, queries.labels))
