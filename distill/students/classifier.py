"""Any classifier of extract.networks as a student: it answers for logits, and for pooled features of its own width."""

from typing import Any

from distill.students.base import Student, StudentRequest
from extract.networks import build_network
from shards.command.specs import parse_spec
from shards.errors import BadInput


def build(request: StudentRequest) -> Student:
    """The classifier that the spec names."""
    return classifier_of(request, *parse_spec("student", request.spec))


def classifier_of(request: StudentRequest, architecture: str, arguments: dict[str, Any]) -> Student:
    """A freshly initialised classifier, its head as wide as the logits or labels it is to match."""
    if request.init not in ("teacher", "random"):
        raise BadInput(f"--init {request.init}: {architecture} takes nothing over from a teacher; give --init random")
    num_classes = request.num_classes or 1  # a head that nothing trains: the targets are features
    network = build_network(architecture, num_classes, **arguments)
    return Student(network, request.inputs, architecture, arguments, num_classes)
