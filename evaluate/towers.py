"""Towers: the two teachers on whose stored rows a run has heads, loaded for what is not stored: words, other images."""

from collections.abc import Collection
from typing import cast

from torch import Tensor, nn

from evaluate.cache import trained_on
from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from extract.modalities.pair import CaptionsInput, tower_of
from extract.named_teachers import how_to_name
from extract.networks.align import AlignNetwork, Head
from extract.networks.pair_part import Rows
from extract.recompute import load_teacher_of
from shards.reader import TargetSet

HEAD = "head"


class Tower(nn.Module):
    """A teacher's network and the run's head on one of its outputs: `head`."""

    def __init__(self, network: nn.Module, target: str, head: Head) -> None:
        super().__init__()
        self.network, self.target, self.head = network, target, head

    def only(self, names: Collection[str]) -> "Tower":
        """The same tower: it has no other output."""
        return self

    def forward(self, *inputs: Tensor) -> dict[str, Rows]:
        """A row a sample."""
        return {HEAD: self.head(self.network(*inputs)[self.target].float())}


def tower(evaluation: Evaluation, modality: str, where: str) -> TrainedStudent:
    """The run's tower of images, or of texts; what it refuses begins with `where`."""
    student, sets = evaluation.student, [TargetSet(each.folder) for each in trained_on(evaluation.run).targetsets]
    targetset = next(each for each in sets if tower_of(each.identity["teacher"]["preprocessing"]) == modality)
    target = targetset.manifest.target
    remedy = f"{where}: asks the {modality} teacher; {how_to_name(targetset.folder)}"
    teacher = load_teacher_of(targetset, None, None, remedy)
    inputs = teacher.inputs.text if isinstance(teacher.inputs, CaptionsInput) else teacher.inputs
    head = getattr(cast(AlignNetwork, student.network), modality)
    network = Tower(teacher.only([target]).network, target, head).eval().to(student.device)
    return TrainedStudent(network, inputs, None, None, student.device, student.dtype)
