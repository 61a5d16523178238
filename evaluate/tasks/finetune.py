"""finetune: the student with LayerNorm and a linear classifier on its pooled features, all of it trained.

The thesis's protocol (T. Cares 2024), after BEiT (Bao et al. 2021, arXiv:2106.08254, section 3.1): the mean over patch
tokens (a CNN's global average), layer-wise learning-rate decay, RandAugment, random erasing, mixup, CutMix and label
smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7). Departs in torchvision's RandAugment, whose magnitudes do
not vary, and in the project's own validation views, resized without a crop.
"""

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.optimiser import rate_factor
from evaluate.augmentation import Augmentation
from evaluate.evaluation import Evaluation
from evaluate.fine_tuning import fine_tuned, folder_of
from evaluate.preset import FinetuneSettings
from evaluate.student import check_output
from evaluate.tasks.accuracy import top_shares
from evaluate.tasks.linear import make_head
from evaluate.training import Method, seed_of
from evaluate.views import check_same_classes
from extract.modalities.image import ImageInput
from shards.errors import BadInput

TAKES = "image"
Settings = FinetuneSettings


def measure(evaluation: Evaluation, settings: FinetuneSettings) -> dict[str, Any]:
    """`top1` and `top5` after the last epoch; RUN/finetune-DATA-HASH holds the trained weights.

    An interrupted one goes on after its last whole epoch and ends with the same.
    """
    config, student = evaluation.config, evaluation.student
    if not isinstance(student.inputs, ImageInput):
        raise BadInput(
            f"--task finetune: trains on images, the student takes {student.inputs.modality}; give --task linear"
        )
    image_size = student.inputs.image_size
    source, test = evaluation.source(config.train_split), evaluation.views(config.split)
    check_same_classes(source, test)
    num_classes = len(source.class_names or ())
    (width,) = check_output(student, "pooled", str(evaluation.folder))
    torch.manual_seed(seed_of(config.seed, "head"))
    classifier = Classifier(student.only("pooled").network, width, num_classes)
    augmentation = Augmentation(image_size, settings, num_classes, config.seed)
    loss = partial(F.cross_entropy, label_smoothing=settings.label_smoothing)
    method = Method(loss, rate_factor, augmentation.batch)
    folder = folder_of(evaluation, "finetune", source, settings, {"image_size": image_size})
    tuned, train_loss = fine_tuned(evaluation, folder, classifier, source, augmentation.make, settings, method)
    return {
        **top_shares(tuned, test),
        "train_loss": round(train_loss, 6),
        **test.facts(),
        "train_split": source.split,
        "seed": config.seed,
        "folder": folder.name,
    }


class Classifier(nn.Module):
    """A copy of a backbone, so that what other tasks measure stays as it was, and the thesis's head."""

    def __init__(self, backbone: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone).requires_grad_(True)
        self.head = make_head(width, num_classes)

    def forward(self, *inputs: Tensor) -> dict[str, Float[Tensor, "batch classes"]]:
        """The logits."""
        return {"logits": self.head(self.backbone(*inputs)["pooled"])}
