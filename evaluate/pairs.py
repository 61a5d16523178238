"""Pairs: a student of images and texts as embeddings in one space, and each of its encoders as a student of its own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from extract.modalities.pair import CaptionsInput, PairInput, token_rows, tower_of
from extract.modalities.text import TextInput
from extract.networks.pair import ENCODED, MODALITIES, PairNetwork
from extract.sources import open_source
from shards.errors import BadInput
from shards.reader import TargetSet
from shards.views.pair import CAPTIONS

AUTO = ("head", "shared_2")
"""What `auto` compares: the first of these that both encoders give."""
POOLED = ("pooled", "cls")

Rows = Float[Tensor, "batch width"]


class Encoder(nn.Module):
    """One encoder of a pair's network alone: `pooled`, and `cls` where it has one, are what the shared layers take."""

    def __init__(self, network: PairNetwork, modality: str) -> None:
        super().__init__()
        self.encoder, self.output = network.encoders[modality], network.outputs_of[modality]

    def forward(self, *inputs: Tensor) -> dict[str, Rows]:
        """A row a sample."""
        rows = self.encoder(*inputs)[self.output]
        rows = rows[:, 0] if self.output == "tokens" else rows
        return dict.fromkeys(POOLED[:1] if self.output == "pooled" else POOLED, rows)


class Part(nn.Module):
    """The outputs of a pair's network for one modality, by their names without it.

    `pooled` and `cls` are the encoder's; with `targets` they are the heads that learned targets of these names.
    """

    def __init__(self, network: PairNetwork, modality: str, targets: bool) -> None:
        super().__init__()
        self.network, self.modality, self.targets = network, modality, targets

    def only(self, names: Collection[str]) -> nn.Module:
        """The same part, computing no more than the outputs `names` need."""
        if not self.targets and set(names) <= set(POOLED):
            return Encoder(self.network, self.modality)
        network = self.network.only([f"{self.modality}/{name}" for name in names])
        return Part(network, self.modality, self.targets)

    def forward(self, *inputs: Tensor) -> dict[str, Rows]:
        """A row a sample."""
        given = inputs if self.modality == "image" else (None, *inputs)
        outputs = {name.partition("/")[2]: rows for name, rows in self.network(*given).items()}
        if not self.targets and ENCODED in outputs:
            has = POOLED[:1] if self.network.outputs_of[self.modality] == "pooled" else POOLED
            outputs |= dict.fromkeys(has, outputs[ENCODED])
        return outputs


def part_of(student: TrainedStudent, modality: str, targets: bool = False) -> TrainedStudent:
    """The part of a student of pairs that sees images, or texts; it classifies where a head has learned logits."""
    network, inputs = student.network, student.inputs
    assert isinstance(network, PairNetwork) and isinstance(inputs, PairInput)
    own = [name for name in network.names if name.startswith(f"{modality}/")]
    part = replace(
        student,
        network=Part(network.only(own), modality, targets).eval(),
        inputs=inputs.image if modality == "image" else inputs.text,
        class_names=None,
    )
    logits = part(part.inputs.example()).get("logits")
    return replace(part, num_classes=None if logits is None else logits.shape[-1])


def part_for(evaluation: Evaluation, takes: str | None) -> Evaluation:
    """The evaluation of the part that a task measures of a student of pairs; any other evaluation as it is.

    `takes` is the modality of the task's data; None: the task takes any, so --data says which.
    """
    if takes == "pair" or not isinstance(evaluation.student.inputs, PairInput):
        return evaluation
    config = evaluation.config
    if takes is None and config.data is not None:
        source = open_source(config.data, config.split, config.data_dir, config.limit)
        takes = "image" if "image" in source.has else "text"
    return replace(evaluation, student=part_of(evaluation.student, takes or "image"))


def answering(student: TrainedStudent, targetset: TargetSet) -> TrainedStudent:
    """The student, or of one of pairs the part that sees what the teacher of `targetset` saw."""
    fed: Mapping[str, Any] = targetset.identity["teacher"]["preprocessing"]
    if not isinstance(student.inputs, PairInput):
        return student
    part = part_of(student, tower_of(fed), targets=True)
    if CAPTIONS not in fed:
        return part
    return replace(part, inputs=CaptionsInput(cast(TextInput, part.inputs), fed[CAPTIONS]))


@dataclass(frozen=True)
class Embedder:
    """Both encoders of a student of pairs, and which of their outputs are compared."""

    image: TrainedStudent
    text: TrainedStudent
    output: str

    @classmethod
    def of(cls, evaluation: Evaluation, where: str, output: str = "auto") -> "Embedder":
        """The encoders of a student of pairs, compared by `output`; BadInput that begins with `where` for another."""
        student, folder = evaluation.student, evaluation.folder
        if not isinstance(student.inputs, PairInput):
            taken = "stored rows of two teachers" if student.inputs.of_targets else f"{student.inputs.modality}s alone"
            raise BadInput(f"{where}: needs a student of images and texts, {folder} takes {taken}; give another --run")
        names = cast(PairNetwork, student.network).names
        both = [name.partition("/")[2] for name in names if name.startswith("image/")]
        chosen = next(name for name in AUTO if name in both) if output == "auto" else output
        if chosen not in both:
            raise BadInput(
                f"{where}: output {output}: the student of {folder} gives {', '.join(both)}; give one of these"
            )
        image, text = (part_of(student, modality, targets=True).only(chosen) for modality in MODALITIES)
        return cls(image, text, chosen)

    def images(self, fields: Mapping[str, Tensor]) -> Rows:
        """Rows of length 1 for a batch of `pixels`, on the student's device."""
        return F.normalize(self.image({"pixels": fields["pixels"]})[self.output], dim=1)

    def texts(self, fields: Mapping[str, Tensor]) -> Rows:
        """Rows of length 1 for a batch of `tokens` and their `length`, on the student's device."""
        return F.normalize(self.text(self.text.inputs.cut(fields))[self.output], dim=1)

    def sentences(self, sentences: Sequence[str]) -> Rows:
        """Rows of length 1 for a batch of texts."""
        rows = token_rows(cast(TextInput, self.text.inputs))(list(sentences))
        return self.texts({name: torch.from_numpy(values) for name, values in rows.items()})
