"""A data2vec 2.0 network of fewer blocks: the teacher's embedding, CLS, positions and first blocks.

After DistilBERT (Sanh et al. 2019, arXiv:1910.01108, section 3: a student initialised from its teacher's layers), as
the thesis does for images. Of another width, or random, it meets the teacher's features through a linear layer each
(as FitNets' regressor: Romero et al. 2015, arXiv:1412.6550, section 2.2).
"""

import dataclasses
import math
from pathlib import Path

from torch import nn

from distill.students.base import Student, StudentRequest
from distill.students.blocks import dense_student, sizes_of
from extract.modalities.image import ImageInput
from extract.networks.data2vec2 import NamedOutputs
from extract.networks.data2vec2.settings import ImageSettings, Settings, settings_of
from extract.networks.outputs import NAMES
from extract.recompute import load_teacher_of
from shards.errors import BadInput


def build(request: StudentRequest) -> Student:
    """The student of `data2vec2:depth=,width=,heads=`, its first blocks the teacher's."""
    if foreign := sorted(name for name in request.targets if name not in NAMES and not name.startswith("layer_")):
        raise BadInput(f"--student {request.spec}: gives features and no {', '.join(foreign)}; name other --targets")
    teacher = _teacher_settings(request)
    settings = _settings(request.spec, sizes_of(request, teacher.depth), teacher)
    arguments = {"settings": dataclasses.asdict(settings), "teacher_depth": teacher.depth}

    def start(network: nn.Module) -> None:
        assert isinstance(network, NamedOutputs)
        _initialise(network)
        if request.init != "random" and request.weights_needed:
            _take_first_blocks(network, request, teacher)

    return dense_student(request, arguments, start, settings.embed_dim)


def _settings(spec: str, sizes: dict[str, int], teacher: Settings) -> Settings:
    depth = sizes["depth"]
    width = sizes.get("width", teacher.embed_dim)
    head_dim = teacher.embed_dim // teacher.num_heads
    heads = sizes.get("heads", max(1, width // head_dim))
    if width % heads or width % 4:
        raise BadInput(f"--student {spec}: width {width} must be a multiple of 4 and of {heads} heads; give heads too")
    if (width, heads) == (teacher.embed_dim, teacher.num_heads):
        return dataclasses.replace(teacher, depth=depth)
    resized = dataclasses.replace(teacher, depth=depth, embed_dim=width, num_heads=heads, num_alibi_heads=heads)
    return dataclasses.replace(resized, local_embed_dim=width) if isinstance(resized, ImageSettings) else resized


def _teacher_settings(request: StudentRequest) -> Settings:
    """The teacher's settings as extract kept them; of another kind of teacher those of a ViT with tokens like its."""
    manifest = request.targetsets[0].manifest
    held = manifest.teacher_settings or {}
    if "embed_dim" in held:
        return settings_of(held)
    if not isinstance(request.inputs, ImageInput):
        raise BadInput(
            f"--student {request.spec}: of {request.inputs.modality} it takes the embedding of a data2vec2 teacher, "
            f"the cache's is {manifest.teacher}; give another --student"
        )
    image_size = request.inputs.image_size
    *tokens, dim = request.targetsets[0].row_shape
    side = math.isqrt(tokens[0]) if tokens else image_size // 16
    extra = tokens[0] - side**2 if tokens else 1
    if manifest.target.endswith("_no_cls"):
        extra = 1  # the teacher's were dropped; a student without CLS would have no such target
    heads = max((heads for heads in range(1, dim // 32 + 1) if dim % heads == 0 and dim // heads >= 64), default=1)
    depth = int(held.get("depth", 12))
    return ImageSettings(
        depth=depth,
        prenet_depth=0,
        embed_dim=dim,
        num_heads=heads,
        num_alibi_heads=heads,
        norm_eps=1e-6,
        average_top_k_layers=depth,
        num_extra_tokens=extra,
        instance_norm_target_layer=True,
        layer_norm_targets=True,
        input_size=image_size,
        patch_size=image_size // max(1, side),
        local_embed_dim=dim,
    )


def _initialise(network: NamedOutputs) -> None:
    """As data2vec 2.0 starts (fairseq's init_bert_params): normal of deviation 0.02, biases and padding zero."""
    for module in network.network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.weight[module.padding_idx])


def _take_first_blocks(network: NamedOutputs, request: StudentRequest, teacher: Settings) -> None:
    settings, manifest = network.settings, request.targetsets[0].manifest
    alike = dataclasses.replace(settings, depth=teacher.depth)
    if "embed_dim" not in (manifest.teacher_settings or {}) or alike != teacher:
        found = f"{manifest.teacher} is no data2vec2 network of width {settings.embed_dim}"
        raise BadInput(f"--init {request.init}: {found} and {settings.num_heads} heads; give --init random")
    weights = None if request.init == "teacher" else request.init
    if weights is not None and "://" not in weights and not Path(weights).expanduser().is_file():
        raise BadInput(
            f"--init {weights}: no such file; expected teacher, random, or the file of the teacher's weights"
        )
    where = "--init: give the file of its weights, or random"
    held = load_teacher_of(request.targetsets[0], None, weights, where).network
    assert isinstance(held, NamedOutputs)
    network.network.load_state_dict(held.network.first_blocks(settings.depth).state_dict())
