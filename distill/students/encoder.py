"""A text encoder of `transformers` of fewer blocks: the teacher's embeddings and first blocks.

After DistilBERT (Sanh et al. 2019, arXiv:1910.01108, section 3), as the thesis does for text. Of another width, or
random, it meets the teacher's features through a linear layer each (FitNets: Romero et al. 2015, arXiv:1412.6550).
"""

import dataclasses

from torch import nn

from distill.students.base import Student, StudentRequest
from distill.students.blocks import dense_student, sizes_of
from extract.networks.text_encoder import MLM_LOGITS, TextEncoder, TextSettings, config_of, resized, settings_of
from extract.recompute import load_teacher_of
from shards.errors import BadInput


def build(request: StudentRequest) -> Student:
    """The student of `encoder:depth=,width=,heads=`, its embeddings and first blocks the teacher's."""
    teacher = _teacher_settings(request)
    settings = resized(teacher, **sizes_of(request, teacher.depth))
    settings = dataclasses.replace(settings, masked_lm=teacher.masked_lm and MLM_LOGITS in request.targets)
    arguments = {"settings": dataclasses.asdict(settings), "teacher_depth": teacher.depth}

    def start(network: nn.Module) -> None:
        assert isinstance(network, TextEncoder)
        if request.init != "random" and request.weights_needed:
            _take_first_blocks(network, request, teacher)

    return dense_student(request, arguments, start, config_of(settings).hidden_size)


def _teacher_settings(request: StudentRequest) -> TextSettings:
    """The teacher's settings as extract kept them."""
    manifest = request.targetsets[0].manifest if request.targetsets else None
    kept = (manifest.teacher_settings if manifest else None) or {}
    if "config" not in kept:
        teacher = f"{manifest.teacher}, which takes {request.inputs.modality}" if manifest else "no teacher"
        raise BadInput(
            f"--student {request.spec}: is built as its teacher, a text encoder of transformers; the cache's is "
            f"{teacher}: give another --student"
        )
    return settings_of(kept)


def _take_first_blocks(network: TextEncoder, request: StudentRequest, teacher: TextSettings) -> None:
    depth = network.settings.depth
    if resized(network.settings, depth).config != resized(teacher, depth).config:
        found = f"{request.targetsets[0].manifest.teacher} has another width or other heads"
        raise BadInput(f"--init {request.init}: {found}; give --init random")
    counted = "" if teacher.counts_padding else ":statistics=valid"
    spec = None if request.init == "teacher" else f"hf:{request.init}{counted}"
    where = "--init: give the folder of its weights, or random"
    whole = load_teacher_of(request.targetsets[0], spec, None, where).network
    assert isinstance(whole, TextEncoder)
    weights = (whole.network if network.settings.masked_lm else whole.encoder).state_dict()
    taken = {name: weights[name] for name in network.network.state_dict() if name in weights}
    if lacking := sorted({name for name, _ in network.network.named_parameters()} - taken.keys()):
        raise BadInput(f"--init {request.init}: the teacher has no {lacking[0]}; give --init random")
    network.network.load_state_dict(taken, strict=False)
