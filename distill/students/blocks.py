"""Students of fewer blocks: the arguments, the check and the start that those of all dense networks share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from distill.students.base import Student, StudentRequest
from extract.modalities.base import InputSpec, feed
from extract.networks import build_network
from extract.networks.dense import DenseNetwork
from shards.command.ranges import COUNT
from shards.command.specs import parse_spec
from shards.errors import BadInput

DEFAULT_DEPTH = 6


def sizes_of(request: StudentRequest, teacher_depth: int) -> dict[str, int]:
    """`depth`, and `width` and `heads` where the spec gives them; BadInput for what no such student takes."""
    name, given = parse_spec("student", request.spec)
    if unknown := sorted(given.keys() - {"depth", "width", "heads"}):
        raise BadInput(f"--student {request.spec}: unknown {', '.join(unknown)}; it takes depth, width and heads")
    for argument, value in given.items():
        COUNT.check(f"--student {request.spec}: {argument}", value)
    sizes = {"depth": min(DEFAULT_DEPTH, teacher_depth)} | given
    if sizes["depth"] > teacher_depth:
        fewer = f"give --student {name}:depth={max(1, teacher_depth // 2)}, or any of at most that many"
        raise BadInput(
            f"--student {request.spec}: is deeper than the teacher, which has {teacher_depth} blocks; {fewer}"
        )
    return sizes


def dense_student(
    request: StudentRequest, arguments: dict[str, Any], start: Callable[[DenseNetwork], None], width: int
) -> Student:
    """The network of `arguments`, of that `width`, computing only what it is to learn; what nothing needs is frozen.

    A target of another width is met through a linear layer. `start` fills in the weights that it starts from.
    """
    name, _ = parse_spec("student", request.spec)
    build = {**arguments, "projectors": {}}
    network = build_network(name, None, **build)
    assert isinstance(network, DenseNetwork)
    projectors = {
        target: shape[-1]
        for target, shape in request.targets.items()
        if target in network.targets.names and shape[-1] != width
    }
    if projectors:
        network.project(width, projectors)
    if unknown := sorted(request.targets.keys() - set(network.names)):
        raise BadInput(
            f"--student {request.spec}: gives {', '.join(network.names)}, and no {', '.join(unknown)}; "
            "name other --targets, or a --student that gives them"
        )
    start(network)
    network = network.only(request.targets.keys())
    freeze_unused(network, request.inputs)
    return Student(network, request.inputs, name, build | {"projectors": projectors}, None)


def freeze_unused(network: nn.Module, inputs: InputSpec) -> None:
    """No parameter requires a gradient that gets none, such as the last norm under a mean of layers' results.

    DDP waits for the gradient of every parameter that requires one.
    """
    outputs = feed(network, inputs, inputs.example())
    torch.stack([rows.sum() for rows in outputs.values()]).sum().backward()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    network.zero_grad(set_to_none=True)
