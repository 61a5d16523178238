"""linear: LayerNorm and a linear classifier, trained on the frozen student's pooled features.

The linear evaluation protocol (Zhang et al. 2016, "Colorful Image Colorization", arXiv:1603.08511, section 3.2: linear
classifiers on frozen features) with the thesis's head. Departs from the thesis in taking the features once, from
plainly resized views, so that nothing is augmented.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from distill.optimiser import parameter_groups, rate_factor
from evaluate.evaluation import Evaluation
from evaluate.features import pooled_features
from evaluate.preset import OptimiserSettings
from shards.command.progress import Progress
from shards.draws import permutation
from shards.errors import BadInput

Settings = OptimiserSettings


def measure(evaluation: Evaluation, settings: OptimiserSettings) -> dict[str, Any]:
    """`top1` of the probe on the split, and `train_top1` on the training split."""
    seed, device = evaluation.config.seed, evaluation.student.device
    train, test = evaluation.train_and_test()
    train_features, train_labels = pooled_features(evaluation, train)
    features, labels = pooled_features(evaluation, test)
    torch.manual_seed(seed)
    probe = make_head(train_features.shape[1], len(train.class_names)).to(device)
    fit(probe, train_features, train_labels, settings, seed)
    return {
        "top1": round(share_correct(probe, features, labels), 6),
        "train_top1": round(share_correct(probe, train_features, train_labels), 6),
        **test.facts(),
        "train_split": train.split,
        "train_data": train.name,
        "seed": seed,
    }


def make_head(width: int, num_classes: int) -> nn.Sequential:
    """The thesis's head on pooled features: LayerNorm, then a linear layer of small weights."""
    linear = nn.Linear(width, num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.LayerNorm(width, eps=1e-6), linear)


def fit(
    probe: nn.Module,
    features: Float[Tensor, "samples width"],
    labels: Int64[Tensor, " samples"],
    settings: OptimiserSettings,
    seed: int,
) -> None:
    """`probe` is trained with cross-entropy; `seed` decides the order of the samples, and nothing else is random."""
    device = next(probe.parameters()).device
    groups = parameter_groups(probe, settings.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    steps = -(-len(features) // settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, settings.warmup, steps))
    with Progress("linear probe", steps, "steps") as progress:
        for epoch in range(settings.epochs):
            order = torch.from_numpy(permutation(len(features), seed, epoch))
            for rows in order.split(settings.batch_size):
                loss = F.cross_entropy(probe(features[rows].to(device)), labels[rows].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.advance()
    if not loss.isfinite():  # once NaN, the weights and all later losses are: every answer would be class 0
        raise BadInput(f"--task linear: the loss of the last step is {loss.item()}; give a lower --lr")


@torch.inference_mode()
def share_correct(
    probe: nn.Module, features: Float[Tensor, "samples width"], labels: Int64[Tensor, " samples"]
) -> float:
    """How often the probe's first answer is the label."""
    device, correct = next(probe.parameters()).device, 0
    for rows, truth in zip(features.split(1 << 14), labels.split(1 << 14), strict=True):
        correct += int((probe(rows.to(device)).argmax(1).cpu() == truth).sum())
    return correct / len(labels)
