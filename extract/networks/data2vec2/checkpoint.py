"""From a data2vec 2.0 checkpoint to our network: which weights, under which names, checked against its cfg.

Layout: fairseq 3d262bb, examples/data2vec/models: `state_dict` and `make_target_model` of data2vec2.py,
`MaeImageClassificationModel` of mae_image_classification.py for fine-tuned files.
"""

import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.networks.data2vec2.named import network_of
from extract.networks.data2vec2.network import Data2Vec2
from extract.networks.data2vec2.settings import SETTINGS, ImageSettings, Settings, read_settings
from extract.networks.data2vec2.unpickle import read_checkpoint
from extract.networks.state_dict import shown
from extract.networks.weight_sets import common_prefix, without_prefix
from shards.errors import BadInput, UnknownName

Tensors = dict[str, Tensor]

# used in pre-training only; encoder_mask and alibi_bias are left over in older files: the official loaders drop them
_IGNORED = re.compile(
    r"(encoder\.decoder|shared_decoder|recon_proj)\..*|encoder\.(encoder_mask|alibi_bias)|modality_encoders\..*"
)
_EMBEDDING = "encoder.local_encoder.embed_tokens.weight"
_POSITIONS = re.compile(r"encoder\.(fixed_positional_encoder\.positions|positional_encoder\.(positions|pos_embed))")


def load_data2vec2(file: str | Path, weights: str = "student") -> Data2Vec2:
    """The network of a checkpoint, of images or of text: float32 on the CPU, eval mode, nothing requires a gradient.

    weights="student" are the weights that the official feature extraction and fine-tuning use; "ema" is the averaged
    teacher that defined the training targets, completed by the student's parts where the file keeps no average of them.
    Pre-trained and fine-tuned files load; a fine-tuned file's classifier is left out, and it holds no "ema".
    Raises BadInput (one line, naming the file) for anything else.
    """
    file = Path(file)
    if weights not in ("student", "ema"):
        raise UnknownName("data2vec2 weights", weights, ("student", "ema"))
    config, tensors, ema = _parts(file, read_checkpoint(file))
    modality = _modality(file, config, tensors)
    tensors = _rename(tensors, modality)
    try:
        settings = read_settings(config, modality, **(_vocabulary(tensors) if modality == "text" else {}))
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error
    if weights == "ema":
        tensors = _with_ema(file, tensors, ema, modality)
    _check_depths(file, settings, tensors, modality)
    return _fill(file, settings, tensors)


def _parts(file: Path, content: dict[str, Any]) -> tuple[dict[str, Any], Tensors, dict[str, Any]]:
    """The pre-training cfg, the tensors by pre-training name and `_ema`, of a pre-trained or a fine-tuned file."""
    config, model = content["cfg"], content.get("model")
    if not isinstance(model, dict) or not isinstance(config, dict):
        keys = ", ".join(map(str, list(content)[:8]))
        raise BadInput(f"{file}: expected a fairseq checkpoint with 'cfg' and 'model', found the keys {keys}")
    model = {str(key): value for key, value in model.items()}
    own = config.get("model")
    fine_tuned_config = own.get("pretrained_model_args") if isinstance(own, dict) else None
    prefix = common_prefix({key: value for key, value in model.items() if key != "_ema"})
    # of a wrapper, or fairseq's own where a fine-tuned file has no classifier
    if prefix and any(key.startswith(f"{prefix}modality_encoders.") for key in model):
        print(f"{file}: taking the prefix {prefix} off the names of its tensors", file=sys.stderr)
        model = {key.removeprefix(prefix): value for key, value in model.items()}
        config = fine_tuned_config if isinstance(fine_tuned_config, dict) else config
    if any(key.startswith("model.modality_encoders.") for key in model):
        # the classifier's own head.* and fc_norm.* do not start with model.
        model = {key.removeprefix("model."): value for key, value in model.items() if key.startswith("model.")}
        config = fine_tuned_config
        if not isinstance(config, dict):
            raise BadInput(
                f"{file}: a fine-tuned file without cfg.model.pretrained_model_args; give the pre-trained file"
            )
    ema = model.get("_ema")
    return config, _only_tensors(file, model), _averaged(file, ema) if isinstance(ema, dict) else {}


def _averaged(file: Path, ema: dict[str, Any]) -> Tensors:
    """fairseq names what it averages `blocks.0.norm1.bias`, or `0.norm1.bias` where that is the blocks alone."""
    tensors = _only_tensors(file, ema)
    prefix = common_prefix(tensors)
    return tensors if re.fullmatch(r"(blocks|\d+)\..*", prefix) else without_prefix(tensors, prefix)


def _only_tensors(file: Path, model: dict[str, Any]) -> Tensors:
    tensors = {key: value for key, value in model.items() if isinstance(value, Tensor)}
    for key, tensor in tensors.items():
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        # a stride of 0 lets a small file declare a tensor of any size
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise BadInput(f"{file}: tensor {key!r:.80} is not stored as it is declared; download the file again")
    return tensors


def _modality(file: Path, config: dict[str, Any], tensors: Tensors) -> str:
    """image or text; of a file with both the one that its cfg says is supported."""
    modalities = sorted({key.split(".")[1].lower() for key in tensors if key.startswith("modality_encoders.")})
    known = [name for name in SETTINGS if name in modalities]
    model = config.get("model")
    supported = str(model.get("supported_modality")).lower() if isinstance(model, dict) else ""
    if known:
        return supported if supported in known else known[0]
    if modalities:
        raise BadInput(
            f"{file}: expected a data2vec 2.0 checkpoint of {' or '.join(SETTINGS)}, found one for "
            f"{' and '.join(modalities)}; give for example base_imagenet.pt or nlp_base.pt"
        )
    raise BadInput(
        f"{file}: expected a data2vec 2.0 checkpoint (tensors named modality_encoders.IMAGE.* or .TEXT.*), "
        f"found {len(tensors)} tensors such as {next(iter(tensors), None)!r:.80}; give for example base_imagenet.pt"
    )


def _rename(tensors: Tensors, modality: str) -> Tensors:
    """Our names for fairseq's, without what only pre-training needs; older files' positions and scales as today's."""
    renamed = {}
    for key, tensor in tensors.items():
        key = re.sub(rf"^modality_encoders\.{modality.upper()}\.", "encoder.", key)
        if _IGNORED.fullmatch(key):
            continue
        key = "encoder.positions" if _POSITIONS.fullmatch(key) else key
        renamed[key] = tensor[None] if key == "encoder.alibi_scale" and tensor.dim() == 4 else tensor
    return renamed


def _vocabulary(tensors: Tensors) -> dict[str, int]:
    rows = tensors.get(_EMBEDDING)
    if rows is None or rows.dim() != 2:
        raise BadInput("expected a table of token embeddings (embed_tokens.weight), found none; give a whole file")
    return {"vocab_size": len(rows)}


def _with_ema(file: Path, student: Tensors, ema: Tensors, modality: str) -> Tensors:
    """The student's tensors, overlaid with the averaged ones: of all parts or (`ema_encoder_only`) of the blocks."""
    if not ema:
        raise BadInput(
            f"{file}: --weights FILE:key=ema: the file holds no averaged weights ('_ema'); take FILE:key=student"
        )
    if all(key[:1].isdigit() for key in ema):
        ema = {f"blocks.{key}": tensor for key, tensor in ema.items()}
    ema = _rename(ema, modality)
    without = [key for key in student if key.startswith("blocks.") and key not in ema]
    if without:
        raise BadInput(f"{file}: '_ema' lacks {shown(without)} of the shared blocks; take --weights FILE:key=student")
    return {**student, **ema}


def _check_depths(file: Path, settings: Settings, tensors: Tensors, modality: str) -> None:
    """Blocks are counted: the released files' depths are known not to follow the published yaml files."""
    for name, prefix, expected in (
        ("depth", "blocks", settings.depth),
        (f"modalities.{modality}.prenet_depth", "encoder.context_encoder.blocks", settings.prenet_depth),
    ):
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        found = {int(match[1]) for match in map(pattern.match, tensors) if match}
        if len(found) != expected or found != set(range(len(found))):
            raise BadInput(
                f"{file}: cfg.model.{name} is {expected}, but the file holds {len(found)} blocks named {prefix}.N; "
                "it was altered or mixed up: download it again"
            )


def _fill(file: Path, settings: Settings, tensors: Tensors) -> Data2Vec2:
    with torch.device("meta"):  # no memory before the shapes are known to be those of the file
        network = network_of(settings)
    expected = network.state_dict()
    positions = tensors.get("encoder.positions")
    if (
        isinstance(settings, ImageSettings)
        and positions is not None
        and "encoder.positions" in expected
        and positions.shape != expected["encoder.positions"].shape
    ):
        raise BadInput(
            f"{file}: cfg's input_size {settings.input_size} and patch_size {settings.patch_size} make "
            f"positions {tuple(expected['encoder.positions'].shape)}, but the stored positions are "
            f"{tuple(positions.shape)}; give a file whose cfg and positions agree"
        )
    missing, unexpected = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or unexpected:
        raise BadInput(
            f"{file}: not the tensors its cfg asks for: missing {shown(missing)}, unexpected {shown(unexpected)}"
        )
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise BadInput(
                f"{file}: tensor {key} should be {tuple(expected[key].shape)} by its cfg, found {tuple(tensor.shape)}"
            )
    copies = {key: tensor.to(torch.float32, copy=True).contiguous() for key, tensor in tensors.items()}
    network.load_state_dict(copies, strict=True, assign=True)
    return network.requires_grad_(False).eval()
