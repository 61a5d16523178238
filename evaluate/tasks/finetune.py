"""finetune: the student with LayerNorm and a linear classifier on its pooled features, all of it trained.

The thesis's protocol (T. Cares 2024), after BEiT (Bao et al. 2021, arXiv:2106.08254, section 3.1): the mean over patch
tokens (a CNN's global average), layer-wise learning-rate decay, RandAugment, random erasing, mixup, CutMix and label
smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7). Departs in torchvision's RandAugment, whose magnitudes do
not vary, and in the project's own validation views, resized without a crop.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evaluate.evaluation import Evaluation
from evaluate.preset import FinetuneSettings, as_facts
from evaluate.runs import weights_of
from evaluate.student import check_output
from evaluate.tasks.accuracy import top_shares
from evaluate.tasks.linear import make_head
from evaluate.training import Training
from evaluate.training_views import TrainingViews, seed_of
from evaluate.views import check_labelled, check_same_classes, threads
from extract.modalities.image import ImageInput
from shards.errors import BadInput
from shards.identity import identity_hash

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
    class_names = check_labelled(source)
    check_same_classes(class_names, source.split, test)
    views = TrainingViews(source, image_size, settings, config.seed, threads(config.num_workers))
    if views.num_batches == 0:
        fewer = f"{source.split} has {len(source.keys)} samples"
        raise BadInput(f"--batch_size {settings.batch_size}: {fewer}; give at most that many")
    (width,) = check_output(student, "pooled", f"--run {evaluation.run}")
    torch.manual_seed(seed_of(config.seed, "head"))
    classifier = Classifier(student.only("pooled").network, width, len(class_names)).to(student.device)
    values = as_facts(settings) | {"preset": None}  # what it is called decides nothing
    identity = {
        **{"weights": weights_of(evaluation.run), "settings": values, "precision": config.precision},
        **{"source": source.name, "revision": source.revision, "split": source.split, "keys": list(source.keys)},
        **{"seed": config.seed, "image_size": image_size, "class_names": class_names},
    }
    folder = evaluation.run / f"finetune-{source.name}-{identity_hash(identity)[:8]}"
    loss = Training(classifier, len(class_names), student, views, settings).run(folder)
    tuned = replace(student, network=classifier.eval(), num_classes=len(class_names), class_names=class_names)
    return {
        **top_shares(replace(evaluation, student=tuned), test),
        "train_loss": round(loss, 6),
        **test.facts(),
        "train_split": source.split,
        **as_facts(settings),
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
