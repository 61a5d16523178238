"""Optimiser: AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with a linear warm-up and a cosine to zero."""

import math
from typing import Any

import torch
from torch import nn

from distill.recipe import Recipe

_TABLES = ("position", "pos_embed", "extra_tokens", "cls_token", "dist_token", "reg_token")


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `network`, at the recipe's peak learning rate."""
    assert recipe.lr is not None  # filled in by `resolve`
    groups = parameter_groups(network, recipe.weight_decay)
    # one kernel for all parameters; float16 scales gradients, which a fused step does itself, and Lightning clips none
    # that a fused step may have scaled, in bfloat16 neither
    fused = recipe.precision == "float32" or (recipe.precision == "bfloat16" and recipe.clip_norm is None)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, fused=fused or None)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: matrices and filters decay; vectors, positions and tokens do not."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_table = any(word in name for word in _TABLES)
            (plain if parameter.ndim < 2 or is_table else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def rate_factor(step: int, warmup: float, total_steps: int) -> float:
    """The learning rate of optimiser step `step` (from 0), as a share of its peak.

    Linear up to the peak over the first `warmup` share of the steps, then half a cosine (Loshchilov & Hutter 2017,
    arXiv:1608.03983, equation 5, one cycle) that would reach zero at step `total_steps`.
    """
    risen, fallen = _shares(step, warmup, total_steps)
    return risen * 0.5 * (1 + math.cos(math.pi * fallen))


def linear_factor(step: int, warmup: float, total_steps: int) -> float:
    """As `rate_factor`, but falling in a line: fairseq's `polynomial_decay`, whose power is 1."""
    risen, fallen = _shares(step, warmup, total_steps)
    return risen * (1 - fallen)


def _shares(step: int, warmup: float, total_steps: int) -> tuple[float, float]:
    """How much of the warm-up, and how much of what comes after it, is over."""
    warmup_steps = max(1, round(warmup * total_steps))
    fallen = max(0, step - warmup_steps) / max(1, total_steps - warmup_steps)
    return min(1.0, (step + 1) / warmup_steps), min(1.0, fallen)
