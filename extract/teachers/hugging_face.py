"""Any vision encoder of the Hugging Face hub or of a local folder, through `transformers`: `hf:ID` or `hf:DIR`.

ViT (arXiv:2010.11929), DINOv2 with and without registers (arXiv:2304.07193, arXiv:2309.16588), BEiT (arXiv:2106.08254),
MAE's encoder (arXiv:2111.06377), the vision towers of CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343), and others
that keep a row a patch. No code of a repository is ever run, and its pickles are read with weights_only.
"""

import hashlib
import json
import re
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from extract.networks.hub_encoder import PICKLE, SAFETENSORS, load_encoder, readable_errors
from extract.networks.named_tokens import NamedTokens
from extract.networks.state_dict import parse_state_dict
from extract.networks.weight_sets import without_prefix
from extract.sources.base import folder_safe_name
from extract.sources.hub import hub_errors, hub_title, local_folder
from extract.teachers.base import Teacher, freeze, sha256_of_state
from extract.teachers.image_processor import PROCESSORS, read_input
from shards.errors import BadInput

_SETTINGS = "config.json"
_SAFETENSORS = (SAFETENSORS, "model-*.safetensors", "model.safetensors.index.json")
_PICKLES = (PICKLE, "pytorch_model-*.bin", "pytorch_model.bin.index.json")
# of a config: what no output depends on
_IRRELEVANT = re.compile(
    r"architectures|transformers_version|_name_or_path|(torch_)?dtype|id2label|label2id|initializer_.*|.*dropout.*"
)


def load(spec: str, weights: str | None, image_size: int | None, weights_key: str | None = None) -> Teacher:
    """The vision encoder behind `hf:`, a folder that save_pretrained wrote or a repository of the hub.

    `image_size` may differ from its own where it interpolates its positions.
    """
    flag = f"--teacher {spec}"
    if weights is not None:
        raise BadInput(f"--weights {weights}: {spec} brings its own weights; drop --weights")
    identifier = spec.partition(":")[2]
    if not identifier:
        raise BadInput("--teacher hf: names no model; give --teacher hf:ORG/NAME, or hf:DIR with its config.json")
    folder = local_folder(identifier) or _download(flag, identifier)
    config, described = _read_config(flag, folder)
    read_state = cache(partial(_read_weights, folder, weights_key))
    network, prefix = load_encoder(flag, config, folder, read_state, chosen=weights_key is not None)
    inputs = read_input(flag, folder, config, image_size)
    named = NamedTokens(network, inputs.image_size, flag)
    relevant = {name: value for name, value in described.items() if not _IRRELEVANT.fullmatch(name)}
    hashed = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]
    name = folder_safe_name(hub_title(identifier))
    with torch.no_grad():
        # by the files' own names, as a network's change from one `transformers` to the next
        weights_sha256 = sha256_of_state(without_prefix(read_state(), prefix))
        teacher = freeze(name, f"hf/{config.model_type}/{hashed}", named, inputs, None, weights_sha256)
    return replace(teacher, settings={"depth": named.depth})


def _read_weights(folder: Path, key: str | None) -> dict[str, Tensor]:
    """Every tensor of the folder's files by its name there; of files that hold several sets, the set `key`."""
    files = _weight_files(folder, _SAFETENSORS) or _weight_files(folder, _PICKLES)
    parsed = [parse_state_dict(file.read_bytes(), str(file), key) for file in files]
    return {name: tensor for state in parsed for name, tensor in state.items()}


def _weight_files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    found = {file for pattern in patterns for file in folder.glob(pattern)}
    return sorted(file for file in found if file.suffix != ".json")


def _download(flag: str, identifier: str) -> Path:
    """The repository's folder in the hub's cache, safetensors before pickles, from the network unless it is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    files = f"{_SETTINGS}, {PROCESSORS[0]} and {SAFETENSORS}"
    remedy = f"download its {files} elsewhere and give --teacher hf:DIR"
    try:
        with hub_errors(flag, identifier, remedy):
            wanted = [_SETTINGS, *PROCESSORS]
            folder = Path(snapshot_download(identifier, allow_patterns=[*wanted, *_SAFETENSORS]))
            if not any(folder.glob("*.safetensors")):
                snapshot_download(identifier, allow_patterns=[*wanted, *_PICKLES])
    except HFValidationError as error:
        raise BadInput(
            f"{flag}: {identifier!r} is no folder here and no name on the hub; give hf:ORG/NAME or hf:DIR"
        ) from error
    return folder


def _read_config(flag: str, folder: Path) -> tuple[transformers.PretrainedConfig, dict[str, Any]]:
    """The config of the network or of its vision tower, for `transformers` and as the file has it."""
    path = folder / _SETTINGS
    if not path.is_file():
        raise BadInput(
            f"{flag}: {folder} holds no {_SETTINGS}; give a folder that save_pretrained wrote, or a hub's ID"
        )
    try:
        described = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error}); download it again") from error
    if not isinstance(described, dict):
        raise BadInput(f"{path}: expected a JSON object, found {described!r:.40}; download it again")
    if described.get("quantization_config") is not None:
        raise BadInput(f"{path}: its weights are quantised; give the model that they were made from")
    with readable_errors(flag):
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    tower = described.get("vision_config")
    return getattr(config, "vision_config", None) or config, tower if isinstance(tower, dict) else described
