"""Students: the network to train, by its spec (a name and its arguments); naming one here is all that a new one needs.

A module of this folder offers `build(request) -> Student`. The names of classifiers (extract.networks) share one.
"""

import importlib

from distill.students.base import Student, StudentRequest
from distill.students.inputs import student_input
from extract.networks import architecture_names
from shards.command.specs import entry_of, name_of
from shards.errors import BadInput, UnknownName
from shards.reader import ViewSet

__all__ = ["Student", "StudentRequest", "build_student", "check_captions", "student_input", "student_names"]

REGISTRY = {
    "data2vec2": "distill.students.data2vec2",
    "encoder": "distill.students.encoder",
    "pair": "distill.students.pair",
    "align": "distill.students.align",
    "timm:NAME": "distill.students.timm_models",
}
PAIR = "pair"
OF_PAIRS = ("pair", "align")
"""Those that learn from images with captions alone."""
_CLASSIFIER = "distill.students.classifier"


def student_names() -> list[str]:
    """The names that --student takes."""
    return sorted([*architecture_names(), *REGISTRY])


def check_captions(recipe: str, spec: str, viewset: ViewSet) -> None:
    """Raises BadInput where the student of `spec` learns from images with captions, and the views have none."""
    name, holds = name_of(spec), viewset.codec.modality
    if name in OF_PAIRS and holds != PAIR:
        raise BadInput(
            f"--recipe {recipe}: its student {name} learns from images with captions, {viewset.folder} holds views of "
            f"{holds} without captions; extract with --view pair from --data that has both"
        )


def build_student(request: StudentRequest) -> Student:
    """The student of `request.spec`, its outputs as wide as the targets it is to match."""
    name = name_of(request.spec)
    entry = entry_of(name, student_names())
    if entry not in student_names():
        raise UnknownName("student", name, student_names())
    student: Student = importlib.import_module(REGISTRY.get(entry, _CLASSIFIER)).build(request)
    return student
