"""Pairs: a student of images and texts as embeddings in one space, and each of its encoders as a student of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from evaluate.towers import HEAD, tower
from extract.modalities.image import ImageInput
from extract.modalities.pair import CaptionsInput, PairInput, TowersInput, token_rows, tower_of
from extract.modalities.text import TextInput
from extract.networks.pair import MODALITIES, PairNetwork
from extract.networks.pair_part import PairPart, Rows
from extract.sources import open_source
from shards.errors import BadInput
from shards.reader import TargetSet
from shards.views.pair import CAPTIONS

AUTO = ("head", "shared_2")
"""What `auto` compares: the first of these that both encoders give."""


def part_of(student: TrainedStudent, modality: str, targets: bool = False) -> TrainedStudent:
    """The part of a student of pairs that sees images, or texts; it classifies where a head has learned logits."""
    network, inputs = student.network, student.inputs
    assert isinstance(network, PairNetwork) and isinstance(inputs, PairInput)
    part = replace(
        student,
        network=PairPart(network, modality, targets).eval(),
        inputs=inputs.image if modality == "image" else inputs.text,
        class_names=None,
    )
    logits = part(part.inputs.example()).get("logits")
    return replace(part, num_classes=None if logits is None else logits.shape[-1])


def part_for(evaluation: Evaluation, takes: str | None) -> Evaluation:
    """The evaluation of the part that a task measures of a student of pairs; any other evaluation as it is.

    `takes` is the modality of the task's data; None: the task takes any, so --data says which.
    """
    if takes != "pair" and evaluation.student.inputs.of_targets:
        raise BadInput(
            f"--task: {evaluation.folder} is two heads on the stored rows of two teachers and has no encoder to "
            "measure; give --task retrieval or zeroshot"
        )
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
        """The encoders of a student of pairs, compared by `output`; BadInput that begins with `where` for another.

        Of heads on two teachers' stored rows these teachers, which are loaded, with their heads.
        """
        student, folder = evaluation.student, evaluation.folder
        towers = isinstance(student.inputs, TowersInput)
        if not towers and not isinstance(student.inputs, PairInput):
            taken = f"{student.inputs.modality}s alone"
            raise BadInput(f"{where}: needs a student of images and texts, {folder} takes {taken}; give another --run")
        names = () if towers else cast(PairNetwork, student.network).names
        both = [HEAD] if towers else [name.partition("/")[2] for name in names if name.startswith("image/")]
        chosen = next(name for name in AUTO if name in both) if output == "auto" else output
        if chosen not in both:
            raise BadInput(
                f"{where}: output {output}: the student of {folder} gives {', '.join(both)}; give one of these"
            )
        if towers:
            image, text = (tower(evaluation, modality, where) for modality in MODALITIES)
        else:
            image, text = (part_of(student, modality, targets=True).only(chosen) for modality in MODALITIES)
        return cls(image, text, chosen)

    @property
    def inputs(self) -> PairInput:
        """What both encoders take of a pair."""
        return PairInput(cast(ImageInput, self.image.inputs), cast(TextInput, self.text.inputs))

    def images(self, fields: Mapping[str, Tensor]) -> Rows:
        """Rows of length 1 for a batch of `pixels`, on the student's device."""
        return F.normalize(self.image({"pixels": fields["pixels"]})[self.output], dim=1)

    def texts(self, fields: Mapping[str, Tensor]) -> Rows:
        """Rows of length 1 for a batch of `tokens` and their `length`, on the student's device."""
        return _texts(self.text, self.output, fields)

    def sentences(self, sentences: Sequence[str]) -> Rows:
        """Rows of length 1 for a batch of texts."""
        return sentence_rows(self.text, self.output, sentences)


def sentence_rows(student: TrainedStudent, output: str, sentences: Sequence[str]) -> Rows:
    """Rows of length 1 for a batch of texts, by a student of texts."""
    rows = token_rows(cast(TextInput, student.inputs))(list(sentences))
    return _texts(student, output, {name: torch.from_numpy(values) for name, values in rows.items()})


def _texts(student: TrainedStudent, output: str, fields: Mapping[str, Tensor]) -> Rows:
    return F.normalize(student(student.inputs.cut(fields))[output], dim=1)
