"""A student of image-text pairs: `pair:IMAGE+TEXT+SHARED`, two encoders and one that they share.

IMAGE and TEXT are students' specs, TEXT with the tokenizer that its captions are read by; SHARED is mlp or block with
width, hidden and heads, or none with width, as in CLIP.
`pair:resnet18+encoder:depth=6,tokenizer=google-bert/bert-base-uncased+mlp` has two encoders of random weights.
`--init image=SPEC,text=SPEC` starts either from the first blocks of a teacher, or from a run (run:DIR).
"""

import dataclasses
from typing import Any

import torch
import transformers
from torch import nn

from distill.students.base import Student, StudentRequest
from distill.students.blocks import freeze_unused
from extract.modalities.base import InputSpec, feed
from extract.modalities.image import ImageInput
from extract.modalities.pair import CAPTION_TOKENS, PairInput
from extract.modalities.text import TextInput
from extract.modalities.tokenizer import tokenizer_of
from extract.networks import DENSE_REGISTRY, build_network
from extract.networks.data2vec2 import NamedOutputs
from extract.networks.dense import DenseNetwork
from extract.networks.pair import MODALITIES, SHARED, PairNetwork, encoder_output
from extract.networks.pair_part import PairPart
from extract.networks.text_encoder import TextEncoder, num_positions, resized, text_settings
from extract.teachers import load_teacher
from shards.command.ranges import COUNT, whole
from shards.command.specs import parse_spec
from shards.errors import BadInput, SourceUnavailable

DEFAULT_TOKENIZER = "google-bert/bert-base-uncased"
HEAD_DIM = 64
FEWEST_TOKENS = 3
"""[CLS] and [SEP] take two: with fewer a caption has no token of its own."""


def build(request: StudentRequest) -> Student:
    """The student of `pair:IMAGE+TEXT+SHARED`, with a head for each target."""
    image_spec, text_spec, shared_spec = _parts(request)
    shared = _shared(request, shared_spec)
    if not isinstance(request.inputs, ImageInput):
        raise BadInput(
            f"--student {request.spec}: takes images with captions, the cache holds {request.inputs.modality}"
        )
    starts = _starts(request)
    text_name, text_arguments = parse_spec("student", text_spec)
    start = starts.get("text")
    tokens, tokenizer = (
        _num_tokens(request, text_arguments.pop("tokens", None), start),
        text_arguments.pop("tokenizer", None),
    )
    if tokenizer is None and isinstance(start, TextEncoder):
        text = dataclasses.replace(starts["text inputs"], size=tokens)
    else:
        text = TextInput.of(tokens, tokenizer_of(f"--student {request.spec}", str(tokenizer or DEFAULT_TOKENIZER)))
    inputs = PairInput(request.inputs, text)
    image_name, image_arguments = parse_spec("student", image_spec)
    described = {
        "image": _described(request, image_name, image_arguments, starts.get("image"), inputs.image),
        "text": _described(request, text_name, text_arguments, start, inputs.text),
    }
    for modality, of_modality in described.items():
        of_modality["width"] = _width(of_modality, shared["kind"], getattr(inputs, modality))
    arguments = {**described, "shared": shared, "heads": request.widths}
    network = build_network("pair", None, **arguments)
    assert isinstance(network, PairNetwork)
    freeze_unused(network, inputs)
    if request.weights_needed:
        for modality in starts.keys() & set(MODALITIES):
            _take(request, modality, network.encoders[modality], starts[modality])
    return Student(network, inputs, "pair", arguments, None)


def _parts(request: StudentRequest) -> tuple[str, str, str]:
    parts = request.spec.partition(":")[2].split("+")
    if len(parts) not in (2, 3) or not all(parts):
        raise BadInput(f"--student {request.spec}: expected pair:IMAGE+TEXT, or pair:IMAGE+TEXT+SHARED")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else "mlp"


def _shared(request: StudentRequest, spec: str) -> dict[str, Any]:
    kind, given = parse_spec("student", spec)
    if kind not in SHARED or given.keys() - {"width", "hidden", "heads"}:
        raise BadInput(f"--student {request.spec}: expected {' or '.join(SHARED)} with width, hidden or heads")
    for name, value in given.items():
        COUNT.check(f"--student {request.spec}: {name}", value)
    width = given.get("width", 768)
    defaults = {"kind": kind, "width": width, "hidden": 4 * width, "heads": max(1, width // HEAD_DIM)}
    return {**defaults, **given}


def _starts(request: StudentRequest) -> dict[str, Any]:
    """The networks that --init names, by modality, and the input of the text's."""
    if request.init == "random":
        return {}
    starts: dict[str, Any] = {}
    for part in request.init.split(","):
        modality, equals, spec = part.partition("=")
        if not equals or modality not in MODALITIES:
            raise BadInput(f"--init {request.init}: expected random, or image=TEACHER,text=TEACHER (or run:DIR)")
        spec, _, weights = spec.partition("@")
        size = request.inputs.image_size if modality == "image" and isinstance(request.inputs, ImageInput) else None
        try:
            teacher = load_teacher(spec, weights or None, size)
        except SourceUnavailable as error:
            said = str(error).replace("--weights ", f"--init {modality}={spec}@")  # distill has no --weights
            raise SourceUnavailable(f"--init {request.init}: {said}, or --init random with a --student") from error
        network = teacher.network
        if isinstance(network, PairPart):
            if modality == "text":
                raise BadInput(f"--init {request.init}: {spec} is a student of pairs, of which image= alone can start")
            network = network.network.encoders[modality]
        starts |= {modality: network, f"{modality} inputs": teacher.inputs}
    return starts


def _num_tokens(request: StudentRequest, given: Any, start: nn.Module | None) -> int:
    """The tokens that captions are cut to: as many as the encoder that it starts from has positions, or fewer."""
    positions = num_positions(start.encoder) if isinstance(start, TextEncoder) else None
    tokens = min(CAPTION_TOKENS, positions or CAPTION_TOKENS) if given is None else given
    whole(FEWEST_TOKENS).check(f"--student {request.spec}: tokens", tokens)
    if positions is not None and tokens > positions:
        raise BadInput(
            f"--student {request.spec}: tokens={tokens}: --init text= has {positions} positions; give up to that"
        )
    return int(tokens)


def _described(
    request: StudentRequest, name: str, given: dict[str, Any], start: nn.Module | None, inputs: InputSpec
) -> dict[str, Any]:
    """What `build_network` makes an encoder of."""
    if name == "encoder" and isinstance(inputs, TextInput):
        arguments: dict[str, Any] = _text_arguments(request, given, start, inputs)
        return {"architecture": name, "num_classes": None, "arguments": arguments}
    if name == "data2vec2":
        if not isinstance(start, NamedOutputs):
            raise BadInput(f"--student {request.spec}: data2vec2 needs --init image=data2vec2@FILE, or image=run:DIR")
        depth = given.get("depth", min(6, start.settings.depth))
        settings = dataclasses.asdict(dataclasses.replace(start.settings, depth=depth))
        arguments = {"settings": settings, "teacher_depth": start.settings.depth, "projectors": {}}
        return {"architecture": name, "num_classes": None, "arguments": arguments}
    if isinstance(inputs, TextInput):
        given = {**given, "settings": {"vocabulary": inputs.vocabulary.size}}
    return {"architecture": name, "num_classes": None if name in DENSE_REGISTRY else 1, "arguments": given}


def _text_arguments(
    request: StudentRequest, given: dict[str, Any], start: nn.Module | None, inputs: TextInput
) -> dict[str, Any]:
    if unknown := sorted(given.keys() - {"depth", "width", "heads"}):
        raise BadInput(f"--student {request.spec}: unknown {', '.join(unknown)}; an encoder takes depth, width, heads")
    for name, value in given.items():
        COUNT.check(f"--student {request.spec}: {name}", value)
    if isinstance(start, TextEncoder):
        settings = resized(start.settings, **{"depth": min(6, start.settings.depth), **given})
        settings = dataclasses.replace(settings, masked_lm=False)
        whole = start.settings.depth
    else:
        width = given.get("width", 768)
        config = transformers.BertConfig(
            vocab_size=inputs.vocabulary.size,
            hidden_size=width,
            num_hidden_layers=given.get("depth", 6),
            num_attention_heads=given.get("heads", max(1, width // HEAD_DIM)),
            intermediate_size=4 * width,
            max_position_embeddings=inputs.size,
            pad_token_id=inputs.vocabulary.pad,
        )
        settings, whole = text_settings(config), config.num_hidden_layers
    return {"settings": dataclasses.asdict(settings), "teacher_depth": whole, "projectors": {}}


def _width(described: dict[str, Any], kind: str, inputs: InputSpec) -> int:
    """How wide the encoder's rows are."""
    encoder = build_network(described["architecture"], described["num_classes"], **described["arguments"]).eval()
    name = encoder_output(encoder, kind)
    chosen = encoder.only([name]) if isinstance(encoder, DenseNetwork) else encoder
    with torch.no_grad():
        return int(feed(chosen, inputs, inputs.example())[name].shape[-1])


def _take(request: StudentRequest, modality: str, encoder: nn.Module, start: nn.Module) -> None:
    """The encoder's weights are those of the same names in `start`."""
    if isinstance(encoder, NamedOutputs) and isinstance(start, NamedOutputs):
        encoder, start = encoder.network, start.network.first_blocks(encoder.settings.depth)
    elif isinstance(encoder, TextEncoder) and isinstance(start, TextEncoder):
        encoder, start = encoder.encoder, start.encoder
    state, wanted = start.state_dict(), encoder.state_dict()
    taken = {name: state[name] for name in wanted if name in state and state[name].shape == wanted[name].shape}
    # a classifier's own head is of no use here, and frozen
    lacking = [name for name, each in encoder.named_parameters() if name not in taken and each.requires_grad]
    if lacking:
        raise BadInput(
            f"--init {request.init}: the {modality} encoder's {lacking[0]} is not there in that shape; give the "
            "encoder's own size in --student, or another --init"
        )
    encoder.load_state_dict(taken, strict=False)
