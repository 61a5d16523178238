"""Compiling: whether torch.compile has on this machine what it needs, asked before a run begins."""

import torch
from torch import nn

from distill.recipe import Recipe
from shards.errors import BadInput


def require_compiler(recipe: Recipe, device: torch.device) -> None:
    """BadInput where the recipe compiles its student and torch cannot compile, on that device, even a small network."""
    if not recipe.compile:
        return
    from torch._dynamo.exc import TorchDynamoException  # takes a second, which other recipes need not wait for

    network = nn.GELU()
    network.compile()
    try:
        network(torch.zeros(64, device=device))
    except TorchDynamoException as error:
        needed = "a C compiler (gcc), which Triton calls" if device.type == "cuda" else "a C++ compiler (g++)"
        reason = str(error).strip().partition("\n")[0]
        remedy = f"install {needed}, or name another in the variable {'CC' if device.type == 'cuda' else 'CXX'}"
        raise BadInput(
            f"--recipe {recipe.name}: compile: true: torch cannot compile here ({reason:.200}); {remedy}, or give "
            "compile: false"
        ) from error
