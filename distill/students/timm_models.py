"""Any image network of `timm` as a student, from random weights: `timm:NAME`, `timm:NAME:drop_path_rate=0.1`."""

from distill.students.base import Student, StudentRequest
from distill.students.classifier import classifier_of
from extract.modalities.image import ImageInput
from extract.networks.timm_models import TimmClassifier, check_size, has_fixed_size
from shards.command.specs import parse_spec
from shards.errors import BadInput


def build(request: StudentRequest) -> Student:
    """A classifier for images of the cache's size: a network of one size (ViT, Swin) is built for it."""
    flag = f"--student {request.spec}"
    if not isinstance(request.inputs, ImageInput):
        raise BadInput(f"{flag}: takes images, the cache's views are {request.inputs.modality}; give another student")
    architecture, arguments = parse_spec("student", request.spec)
    if has_fixed_size(architecture.partition(":")[2]):
        arguments = {"img_size": request.inputs.image_size} | arguments
    student = classifier_of(request, architecture, arguments)
    assert isinstance(student.network, TimmClassifier)
    check_size(flag, student.network.network, request.inputs.image_size)
    return student
