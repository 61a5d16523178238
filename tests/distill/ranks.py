"""Two ranks for the tests of losses over all devices, forked from one process that has imported what they need."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch

PRELOADED = ["torch._dynamo", "torch.distributed", "distill.recipe", "distill.terms", "distill.named_targets", "pytest"]
"""No module of tests/: the forkserver of Python 3.11 has another sys.path."""


def on_two_ranks(function: Callable[..., None], *arguments: Any) -> None:
    """`function(rank, *arguments)` as rank 0 and rank 1; raises where one of them does."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)  # kept where a test has started it
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")
