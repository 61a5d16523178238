"""Text tuning: the student with BERT's pooler and a linear layer on [CLS], all of it trained on sentences or pairs.

The thesis's protocol for GLUE (T. Cares 2024), after BERT (Devlin et al. 2018, arXiv:1810.04805, section 4.1): linear
and tanh on [CLS], dropout, linear; the learning rate falls linearly after its warm-up.
"""

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.optimiser import linear_factor
from evaluate.evaluation import Evaluation
from evaluate.fine_tuning import fine_tuned, folder_of
from evaluate.metrics import Values
from evaluate.pooler import PREFIX, teacher_pooler
from evaluate.preset import TrainingSettings
from evaluate.student import check_output
from evaluate.training import Method, seed_of
from extract.modalities.text import TextInput
from extract.modalities.token_source import tokenised
from extract.teachers.base import sha256_of_state
from shards.command.progress import counted
from shards.command.ranges import ShareBelowOne, whole
from shards.errors import BadInput
from shards.views.base import Row

if TYPE_CHECKING:
    from extract.sources.base import Sample, Source

_INIT_STD = 0.02  # as BERT's layers begin
MIN_TOKENS = 5
"""A pair has up to four special ones."""


@dataclass(frozen=True, kw_only=True)
class TextSettings(TrainingSettings):
    """How a network of texts is fine-tuned."""

    dropout: ShareBelowOne
    """Before the last layer."""
    max_tokens: Annotated[int, whole(MIN_TOKENS)]
    """Longer sentences and pairs are cut here, or where the student's positions end."""


def for_texts(evaluation: Evaluation, task: str, max_tokens: int | None = None) -> Evaluation:
    """The evaluation of a student that takes at most `max_tokens`; BadInput where it takes no texts."""
    student, inputs = evaluation.student, evaluation.student.inputs
    if not isinstance(inputs, TextInput):
        taken = f"{evaluation.folder} takes {inputs.modality}"
        raise BadInput(f"--task {task}: measures on texts, {taken}; give another task")
    if inputs.size < MIN_TOKENS:
        raise BadInput(f"--task {task}: {evaluation.folder} takes {inputs.size} tokens, expected {MIN_TOKENS} or more")
    inputs = replace(inputs, size=min(max_tokens or inputs.size, inputs.size))
    return replace(evaluation, student=replace(student, inputs=inputs))


class TextTuning:
    """One fine-tuning of a student: on classes where the source has them, else on scores.

    Its pooler starts as that of the teacher, where that one's files have it and it is as wide, else at random.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        task: str,
        source: "Source",
        settings: TextSettings,
        **others: Any,
    ) -> None:
        """`evaluation` is one of `for_texts`; `others` is what else the folder's contents depend on."""
        self.evaluation, self.source, self.settings = evaluation, source, settings
        assert isinstance(evaluation.student.inputs, TextInput)
        self.tokenizer, self.size = evaluation.student.inputs.tokenizer, evaluation.student.inputs.size
        self.full = set[str]()
        """The keys of samples that leave no room, and so may have been cut off."""
        self.pooler = teacher_pooler(evaluation)
        others |= {"size": self.size, "pooler": self.pooler and sha256_of_state(self.pooler)}
        self.folder = folder_of(evaluation, task, source, settings, others)

    def classifier(self) -> "ClsClassifier":
        """The network before its training."""
        torch.manual_seed(seed_of(self.evaluation.config.seed, "head"))
        backbone = self.evaluation.student.only("cls").network
        num_outputs = len(self.source.class_names) if self.source.class_names else 1
        (width,) = check_output(self.evaluation.student, "cls", str(self.evaluation.folder))
        classifier = ClsClassifier(backbone, width, num_outputs, self.settings.dropout)
        if self.pooler is not None and self.pooler[f"{PREFIX}bias"].shape == (width,):
            classifier.pooler.load_state_dict({name.removeprefix(PREFIX): rows for name, rows in self.pooler.items()})
        return classifier

    def run(self) -> tuple[Evaluation, float]:
        """The evaluation of the trained student, whose output is `logits`, and the last epoch's mean loss."""
        method = Method(F.cross_entropy if self.source.class_names else squared_error, linear_factor)
        source = tokenised(self.source, self.tokenizer, self.size)
        parts = self.classifier(), source, self.make, self.settings, method
        return fine_tuned(self.evaluation, self.folder, *parts)

    def predictions(self, tuned: Evaluation, source: "Source") -> tuple[Values, Values]:
        """The true classes or scores of the samples of `source`, and those that the trained student gives."""
        source = tokenised(source, self.tokenizer, self.size)
        truth, predicted = list[Tensor](), list[Tensor]()
        for logits, labels in tuned.outputs(tuned.views_of(source, source.name, self.make), "logits"):
            predicted.append((logits.argmax(1) if self.source.class_names else logits[:, 0]).cpu())
            truth.append(labels.cpu())
        return torch.cat(truth).numpy(), torch.cat(predicted).numpy()

    def make(self, sample: "Sample", epoch: int) -> tuple[Row, dict[str, Any]]:
        """The tokens of a sample, alike in every epoch."""
        row, facts = self.evaluation.maker.make(sample, 0)
        if row["length"] == self.size:
            self.full.add(sample.key)
        return row, facts

    def note_full(self) -> None:
        """A line where sentences may have been longer than the network's input."""
        if self.full:
            full = f"{self.source.name}: {counted(len(self.full), 'sample')}"
            print(f"evaluate: note: {full} of {self.size} tokens or more, cut off there")


class ClsClassifier(nn.Module):
    """A copy of a backbone, so that what other tasks measure stays as it was, and BERT's head on its [CLS]."""

    def __init__(self, backbone: nn.Module, width: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone).requires_grad_(True)
        self.pooler, self.dropout, self.head = (
            nn.Linear(width, width),
            nn.Dropout(dropout),
            nn.Linear(width, num_outputs),
        )
        for layer in (self.pooler, self.head):
            nn.init.normal_(layer.weight, std=_INIT_STD)
            nn.init.zeros_(layer.bias)

    def forward(self, *inputs: Tensor) -> dict[str, Float[Tensor, "batch outputs"]]:
        """The classes' logits, or the score."""
        return {"logits": self.head(self.dropout(torch.tanh(self.pooler(self.backbone(*inputs)["cls"]))))}


def squared_error(scores: Float[Tensor, "batch 1"], truth: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """The mean squared error of scores, as BERT's regression on STS-B."""
    return F.mse_loss(scores[:, 0], truth)
