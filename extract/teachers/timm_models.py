"""Any image network of `timm` as a teacher: `timm:NAME` (`timm:resnet50.a1_in1k`), `timm:DIR` or `timm:ORG/REPOSITORY`.

Architectures, preprocessing and weights are those of Wightman 2019, https://github.com/huggingface/pytorch-image-models.
Size, mean and std are the weights' own (`pretrained_cfg`). Views are resized bicubically; what timm's evaluation cuts
off around an image (`crop_pct`) is a matter of `--view`. A file is read as any other here, and pickles run no code.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, resolve_data_config
from timm.models import get_pretrained_cfg
from torch import Tensor

from extract.modalities.image import ImageInput, input_of
from extract.networks.dense import DenseNetwork
from extract.networks.hub_encoder import PICKLE, SAFETENSORS
from extract.networks.state_dict import load_weights, mismatches, read_state_dict
from extract.networks.timm_models import BUILD_ERRORS, create, with_outputs
from extract.networks.weight_sets import common_prefix
from extract.sources.hub import hub_folder, local_folder
from extract.sources.naming import folder_safe_name
from extract.teachers.base import Teacher, freeze, sha256_of_state
from extract.teachers.download import download, located
from shards.errors import BadInput, UnknownName, one_line
from shards.identity import canonical_json, sha256_of

_SETTINGS = "config.json"
_NUM_IMAGENET = 1000
_TOLD_BY_WEIGHTS = ("num_classes", "in_chans", "img_size")

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class _Described:
    """What builds and feeds a network, and the file of its weights."""

    name: str
    architecture: str
    config: Mapping[str, Any]
    """timm's pretrained_cfg."""
    path: Path
    arguments: Mapping[str, Any]
    """How it is built otherwise than by its name."""


def load(spec: str, weights: str | None, image_size: int | None, weights_key: str | None = None) -> Teacher:
    """The network behind `timm:` with the weights of the hub, of a folder as the hub stores it, or of `--weights`.

    Its head is as wide as the file's; 1000 classes without names of their own are ImageNet's. A network of one image
    size has its positions interpolated to another `image_size` as timm does it.
    """
    flag = f"--teacher {spec}"
    described = _described(flag, spec.partition(":")[2], weights)
    inputs = _input(flag, described.config, image_size)
    with torch.serialization.safe_globals([argparse.Namespace]):  # the trainer's arguments, which hold plain values
        state = read_state_dict(described.path, weights_key)
    network = _network(spec, flag, described, inputs.image_size, state)
    named = with_outputs(flag, network, inputs.image_size)
    told = {name: value for name, value in described.arguments.items() if name not in _TOLD_BY_WEIGHTS}
    own = f"/{sha256_of(canonical_json(told))[:16]}" if told else ""
    names = _class_names(described.config, network.num_classes)
    # by the file's own names, as a network's change from one `timm` to the next
    weights_sha256 = sha256_of_state(state)
    architecture = f"timm/{described.architecture}{own}"
    with torch.no_grad():
        teacher = freeze(folder_safe_name(described.name), architecture, named, inputs, names, weights_sha256)
    return replace(teacher, settings={"depth": named.depth}) if isinstance(named, DenseNetwork) else teacher


def _described(flag: str, name: str, weights: str | None) -> _Described:
    architecture = name.partition(".")[0]
    known = timm.list_models(include_tags=True)
    if name in known or name in timm.list_models():
        config = _registered(name)
        path = _published(flag, config) if weights is None else _located(weights)
        return _Described(f"timm-{name}", architecture, config, path, {})
    folder = local_folder(name) if name else None
    if folder is None and name.count("/") != 1:
        raise UnknownName("network of timm", name, [*known, *timm.list_models()])
    if weights is not None:
        raise BadInput(f"--weights {weights}: {flag} brings its own weights; drop --weights")
    title = f"timm-{folder.name if folder else name.replace('/', '--')}"
    if folder is None:
        remedy = f"download its {_SETTINGS} and {SAFETENSORS} elsewhere and give --teacher timm:DIR"
        folder = hub_folder(flag, name, remedy, [_SETTINGS, SAFETENSORS], [PICKLE])
    return _of_folder(flag, title, folder)


def _registered(name: str) -> dict[str, Any]:
    """timm's pretrained_cfg of a name with or without a tag."""
    config = get_pretrained_cfg(name)
    return config.to_dict() if config else {}


def _of_folder(flag: str, title: str, folder: Path) -> _Described:
    """The network that the hub's config.json in `folder` describes, in its older form too."""
    path = folder / _SETTINGS
    try:
        whole = json.loads(path.read_bytes())
        architecture, arguments = str(whole["architecture"]), dict(whole.get("model_args") or {})
        config = dict(whole.get("pretrained_cfg", whole))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: expected timm's, with architecture and pretrained_cfg, found {error!r:.120}; give {flag} "
            "of a folder as the hub stores it"
        ) from error
    if not timm.is_model(architecture):
        raise UnknownName("network of timm", architecture, timm.list_models())
    config |= {name: whole[name] for name in ("label_names", "label_descriptions") if name in whole}
    config = _registered(architecture) | config
    if config.get("fixed_input_size") and (size := arguments.get("img_size")) is not None:
        config["input_size"] = (3, *(size if isinstance(size, list) else (size, size)))
    return _Described(title, architecture, config, _weights_in(folder), arguments)


def _located(weights: str) -> Path:
    path = located(weights)
    return _weights_in(path) if path.is_dir() else path


def _weights_in(folder: Path) -> Path:
    found = [folder / name for name in (SAFETENSORS, PICKLE) if (folder / name).is_file()]
    if not found:
        raise BadInput(f"{folder}: holds no {SAFETENSORS} and no {PICKLE}; download it again")
    return found[0]


def _published(flag: str, config: Mapping[str, Any]) -> Path:
    """The file of the weights that timm names, from the hub or else by its URL."""
    if repository := config.get("hf_hub_id"):
        file = config.get("hf_hub_filename") or SAFETENSORS
        remedy = f"download https://huggingface.co/{repository}/resolve/main/{file} elsewhere and give --weights FILE"
        folder = hub_folder(flag, repository, remedy, [file], [PICKLE])
        return folder / file if (folder / file).is_file() else _weights_in(folder)
    if url := config.get("url"):
        return download(url)
    raise BadInput(f"{flag}: timm has no weights of that name; give --weights FILE")


def _input(flag: str, config: Mapping[str, Any], image_size: int | None) -> ImageInput:
    try:
        data = resolve_data_config(pretrained_cfg=dict(config))
        channels, height, width = data["input_size"]
    except BUILD_ERRORS as error:
        raise BadInput(
            f"{flag}: its {_SETTINGS} gives no input_size ({one_line(error):.80}); download it again"
        ) from error
    if channels != 3 or (image_size is None and height != width):
        found = f"{channels} channels of {height} x {width} pixels"
        raise BadInput(
            f"{flag}: expected RGB images as high as wide, found {found}; give --view size=PIXELS, or another"
        )
    return input_of(flag, data | {"image_size": image_size or height}, None)


def _network(spec: str, flag: str, described: _Described, image_size: int, state: Tensors) -> Any:
    """The network filled with the file's tensors; where they do not fit, with what timm's own filter makes of them.

    The filters know older layouts, and interpolate positions to another image size.
    """
    arguments = dict(described.arguments)
    if described.config.get("fixed_input_size"):
        arguments["img_size"] = image_size

    def empty(device: str, state: Tensors) -> Any:
        with torch.device(device):
            num_classes = _num_classes(described.config, state)
            return create(flag, described.architecture, **arguments | {"num_classes": num_classes})

    network = empty("meta", state)  # no memory is taken until the weights are known to fit
    own = common_prefix(network.state_dict())  # of the network itself, which went with the file's
    state = {f"{own}{name}": tensor for name, tensor in state.items()}
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None and mismatches(network, state):
        with contextlib.suppress(*BUILD_ERRORS):  # of weights that are none of this network's
            converted = convert(dict(state), network)
            fitting = empty("meta", converted)
            if not mismatches(fitting, converted):
                network, state = fitting, converted
    load_weights(network, state, str(described.path), spec)
    if any(buffer.is_meta for buffer in network.buffers()):  # tables of indices, which no file holds
        network = empty("cpu", state)
        load_weights(network, state, str(described.path), spec)
    return network


def _num_classes(config: Mapping[str, Any], state: Tensors) -> int:
    """The width of the file's head; 0 where it has none."""
    names = config.get("classifier") or ()
    heads = [state.get(f"{name}.weight") for name in ([names] if isinstance(names, str) else names)]
    return next((len(head) for head in heads if head is not None and head.ndim > 1), 0)


def _class_names(config: Mapping[str, Any], num_classes: int) -> tuple[str, ...] | None:
    names = config.get("label_names")
    if isinstance(names, list | tuple) and len(names) == num_classes:
        words = config.get("label_descriptions") or {}
        return tuple(str(words.get(name, name)) for name in names)
    return tuple(ImageNetInfo().label_descriptions()) if num_classes == _NUM_IMAGENET else None
