"""A text encoder of `transformers` of fewer blocks: the teacher's embeddings and first blocks.

After DistilBERT (Sanh et al. 2019, arXiv:1910.01108, section 3), as the thesis does for text. Of another width, or
random, it meets the teacher's features through a linear layer each (FitNets: Romero et al. 2015, arXiv:1412.6550).
"""

import dataclasses

from distill.students.base import Student, StudentRequest
from distill.students.data2vec2 import DEFAULT_DEPTH, _freeze_unused
from extract.networks import build_network
from extract.networks.text_encoder import MLM_LOGITS, TextEncoder, TextSettings, resized, settings_of
from extract.recompute import load_teacher_of
from shards.command.ranges import COUNT
from shards.command.specs import parse_spec
from shards.errors import BadInput


def build(request: StudentRequest) -> Student:
    """The network, computing only what it is to learn; what no target depends on is frozen."""
    name, given = parse_spec("student", request.spec)
    if unknown := sorted(given.keys() - {"depth", "width", "heads"}):
        raise BadInput(f"--student {request.spec}: unknown {', '.join(unknown)}; it takes depth, width and heads")
    for argument, value in given.items():
        COUNT.check(f"--student {request.spec}: {argument}", value)
    teacher = _teacher_settings(request)
    settings = _settings(request, given, teacher)
    width = settings.config["hidden_size"] if "hidden_size" in settings.config else settings.config["dim"]
    widths = {target: shape[-1] for target, shape in request.targets.items() if target != MLM_LOGITS}
    arguments = {
        "settings": dataclasses.asdict(settings),
        "teacher_depth": teacher.depth,
        "projectors": {target: each for target, each in widths.items() if each != width},
    }
    network = build_network(name, None, **arguments)
    assert isinstance(network, TextEncoder)
    if unknown := sorted(request.targets.keys() - set(network.names)):
        raise BadInput(
            f"--student {request.spec}: gives {', '.join(network.names)}, and no {', '.join(unknown)}; "
            "name other --targets, or a --student that gives them"
        )
    if request.init != "random" and request.weights_needed:
        _take_first_blocks(network, request, teacher)
    network = network.only(request.targets.keys())
    _freeze_unused(network, request.inputs)
    return Student(network, request.inputs, name, arguments, None)


def _settings(request: StudentRequest, given: dict[str, int], teacher: TextSettings) -> TextSettings:
    depth = given.get("depth", min(DEFAULT_DEPTH, teacher.depth))
    if depth > teacher.depth:
        fewer = f"give --student encoder:depth={max(1, teacher.depth // 2)}, or any of at most that many"
        raise BadInput(
            f"--student {request.spec}: is deeper than the teacher, which has {teacher.depth} blocks; {fewer}"
        )
    settings = resized(teacher, depth, given.get("width"), given.get("heads"))
    return dataclasses.replace(settings, masked_lm=teacher.masked_lm and MLM_LOGITS in request.targets)


def _teacher_settings(request: StudentRequest) -> TextSettings:
    """The teacher's settings as extract kept them."""
    manifest = request.targetsets[0].manifest if request.targetsets else None
    held = (manifest.teacher_settings if manifest else None) or {}
    if "config" not in held:
        found = manifest.teacher if manifest else "no teacher"
        raise BadInput(
            f"--student {request.spec}: is built as its teacher, a text encoder of transformers; the cache's is "
            f"{found}: give another --student"
        )
    return settings_of(held)


def _take_first_blocks(network: TextEncoder, request: StudentRequest, teacher: TextSettings) -> None:
    alike = resized(network.settings, network.settings.depth), resized(teacher, network.settings.depth)
    if alike[0].config != alike[1].config:
        found = f"{request.targetsets[0].manifest.teacher} has another width or other heads"
        raise BadInput(f"--init {request.init}: {found}; give --init random")
    weights = None if request.init == "teacher" else request.init
    where = "--init: give the folder of its weights, or random"
    held = load_teacher_of(request.targetsets[0], None, weights, where).network
    assert isinstance(held, TextEncoder)
    source = (held.network if network.settings.masked_lm else held.encoder).state_dict()
    taken = {name: source[name] for name in network.network.state_dict() if name in source}
    if lacking := sorted({name for name, _ in network.network.named_parameters()} - taken.keys()):
        raise BadInput(f"--init {request.init}: the teacher has no {lacking[0]}; give --init random")
    network.network.load_state_dict(taken, strict=False)
