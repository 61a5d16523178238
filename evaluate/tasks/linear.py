"""linear: a linear classifier trained on the frozen student's pooled features.

The linear evaluation protocol (Zhang et al. 2016, "Colorful Image Colorization", arXiv:1603.08511, section 3.2: linear
classifiers on frozen features), on features taken once from plainly resized views. Departs from it in having no
augmentation, in standardising each feature by the training split, and in AdamW (Loshchilov & Hutter 2019,
arXiv:1711.05101) with a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts).
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from evaluate.evaluation import Evaluation
from shards.order import permutation
from shards.progress import Progress

TRAIN_BATCH = 256
_WEIGHT_DECAY = 0.01


def measure(evaluation: Evaluation) -> dict[str, Any]:
    """`top1` of the probe on the split, and `train_top1` on the training split."""
    config = evaluation.config
    train, test = evaluation.train_and_test()
    train_features, train_labels = evaluation.features(train)
    features, labels = evaluation.features(test)
    probe = Probe(train_features, len(train.class_names)).to(evaluation.student.device)
    fit(probe, train_features, train_labels, config.epochs, config.lr, config.seed)
    return {
        "top1": round(share_correct(probe, features, labels), 6),
        "train_top1": round(share_correct(probe, train_features, train_labels), 6),
        **test.facts(),
        "train_split": train.split,
        **{name: getattr(config, name) for name in ("epochs", "lr", "seed")},
    }


class Probe(nn.Module):
    """Features standardised as the training ones are, then one linear layer that starts from 0."""

    def __init__(self, features: Float[Tensor, "samples width"], num_classes: int) -> None:
        super().__init__()
        # float64 sums, in blocks so that no second copy of the features is made
        blocks, zeros = features.split(1 << 16), torch.zeros(features.shape[1], dtype=torch.float64)
        mean = sum((block.double().sum(0) for block in blocks), zeros) / len(features)
        variance = sum(((block.double() - mean).square().sum(0) for block in blocks), zeros) / len(features)
        self.mean = nn.Buffer(mean.float())
        # a constant feature has deviation 0 and is only centred
        self.scale = nn.Buffer(variance.sqrt().clamp(min=1e-6).reciprocal().float())
        self.linear = nn.Linear(features.shape[1], num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch classes"]:
        """Logits of raw features."""
        logits: Tensor = self.linear((features - self.mean) * self.scale)
        return logits


def fit(
    probe: Probe,
    features: Float[Tensor, "samples width"],
    labels: Int64[Tensor, " samples"],
    epochs: int,
    lr: float,
    seed: int,
) -> None:
    """`probe` is trained with cross-entropy; `seed` decides the order of the samples, and nothing else is random."""
    device = probe.mean.device
    optimizer = torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=_WEIGHT_DECAY)
    steps = -(-len(features) // TRAIN_BATCH) * epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with Progress("linear probe", steps, "steps") as progress:
        for epoch in range(epochs):
            order = torch.from_numpy(permutation(len(features), seed, epoch))
            for rows in order.split(TRAIN_BATCH):
                loss = F.cross_entropy(probe(features[rows].to(device)), labels[rows].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.advance()


@torch.inference_mode()
def share_correct(probe: Probe, features: Float[Tensor, "samples width"], labels: Int64[Tensor, " samples"]) -> float:
    """How often the probe's first answer is the label."""
    device, correct = probe.mean.device, 0
    for rows, truth in zip(features.split(1 << 14), labels.split(1 << 14), strict=True):
        correct += int((probe(rows.to(device)).argmax(1).cpu() == truth).sum())
    return correct / len(labels)
