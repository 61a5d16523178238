"""Embeddings: pooled features of stored views, and whether student and teacher name the same neighbours."""

from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from evaluate.student import load_student
from evaluate.tasks.knn import nearest
from shards.decode import codec_of, read_decoded
from shards.in_order import in_order
from shards.loader import BatchLoader
from shards.reader import Component, TargetSet, ViewSet

BATCH = 64
Embeddings = Float[Tensor, "samples width"]


def embeddings(run: Path, folder: Path) -> tuple[Embeddings, Embeddings]:
    """Of the views in `folder`: those of the student of `run`, and those of the teacher, of which its targets are."""
    viewset = ViewSet(folder)
    (path,) = viewset.folder.glob("targets/*/targetset.json")
    targetset, student = TargetSet(path.parent), load_student(run, "cpu", "float32").only("pooled")
    batches = BatchLoader([Component(viewset)], in_order(viewset.usable, BATCH), BATCH)
    said = [student(student.inputs.cut(batch.fields))["pooled"] for batch in batches]
    return torch.cat(said), read_decoded(targetset, codec_of(targetset), 0, viewset.usable)


def neighbour_agreement(student: Embeddings, teacher: Embeddings) -> float:
    """The share of samples whose nearest other one, by cosine, is the same for both; 1 / (samples - 1) by chance."""
    return (nearest_other(student) == nearest_other(teacher)).double().mean().item()


def nearest_other(embeddings: Embeddings) -> Int64[Tensor, " samples"]:
    """The row that is nearest to each, itself left out."""
    _, rows = nearest(embeddings, embeddings, 2)
    # of two equal rows either may come first
    return torch.where(rows[:, 0] == torch.arange(len(rows)), rows[:, 1], rows[:, 0])
