"""Any encoder of images or texts of the Hugging Face hub or of a local folder, through `transformers`: `hf:ID|DIR`.

Images: ViT (arXiv:2010.11929), DINOv2 with and without registers (arXiv:2304.07193, arXiv:2309.16588), BEiT
(arXiv:2106.08254), MAE's encoder (arXiv:2111.06377), the vision towers of CLIP (arXiv:2103.00020) and SigLIP
(arXiv:2303.15343), and others that keep a row a patch. Texts: BERT (arXiv:1810.04805), RoBERTa (arXiv:1907.11692),
MiniLM (arXiv:2002.10957), ModernBERT (arXiv:2412.13663), DeBERTa (arXiv:2006.03654) and other encoders; `bert` is BERT
base, uncased. No code of a repository is ever run, and its pickles are read with weights_only.
"""

import hashlib
import json
import re
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from extract.modalities.base import InputSpec
from extract.modalities.text import TextInput
from extract.modalities.tokenizer import VOCABULARIES, TextTokenizer
from extract.networks.dense import DenseNetwork
from extract.networks.embeddings import CLIP_TEXT, TextTower, projection_of
from extract.networks.hub_encoder import PICKLE, SAFETENSORS, load_encoder, readable_errors
from extract.networks.named_tokens import NamedTokens
from extract.networks.state_dict import parse_state_dict
from extract.networks.text_encoder import TextEncoder, num_positions
from extract.networks.weight_sets import without_prefix
from extract.sources.hub import hub_folder, hub_title, local_folder
from extract.sources.naming import folder_safe_name
from extract.teachers.base import Teacher, freeze, sha256_of_state
from extract.teachers.image_processor import PROCESSORS, read_input
from shards.errors import BadInput

_NAMED = {"bert": "google-bert/bert-base-uncased"}
"""Encoders of the hub that have a name of their own; --weights takes a copy of their folder."""
_TEXT_TOWER = "text_config"
_SETTINGS = "config.json"
_TOKENIZERS = ("tokenizer*.json", *VOCABULARIES)
_SAFETENSORS = (SAFETENSORS, "model-*.safetensors", "model.safetensors.index.json")
_PICKLES = (PICKLE, "pytorch_model-*.bin", "pytorch_model.bin.index.json")
# of a config: what no output depends on
_IRRELEVANT = re.compile(
    r"architectures|transformers_version|_name_or_path|(torch_)?dtype|id2label|label2id|initializer_.*|.*dropout.*"
)


def load(spec: str, weights: str | None, size: int | None, weights_key: str | None = None) -> Teacher:
    """The encoder behind `hf:`, a folder that save_pretrained wrote or a repository of the hub; `bert` is one of them.

    `size` is in pixels a side or in tokens. Of images it may differ from the encoder's own where it interpolates its
    positions. `:statistics=valid` behind a text encoder leaves padding out of the statistics of layer means, `:text`
    behind a CLIP means its text tower.
    """
    flag = f"--teacher {spec}"
    spec, tower = _tower(spec)
    spec, _, option = spec.partition(":statistics=")
    if option not in ("", "valid"):
        raise BadInput(f"{flag}: statistics={option}: expected statistics=valid")
    name, _, identifier = spec.partition(":")
    if name in _NAMED:
        identifier = weights or _NAMED[name]
    elif weights is not None:
        raise BadInput(f"--weights {weights}: {spec} brings its own weights; drop --weights")
    if not identifier:
        raise BadInput("--teacher hf: names no model; give --teacher hf:ORG/NAME, or hf:DIR with its config.json")
    folder = local_folder(identifier) or _download(flag, identifier)
    config, described = _read_config(flag, folder, tower)
    if tower == _TEXT_TOWER and config.model_type != CLIP_TEXT:
        raise BadInput(f"{flag}: expected a CLIP, whose text tower gives embeddings, found a {config.model_type}")
    read_state = cache(partial(_read_weights, folder, weights_key))
    network, prefix = load_encoder(flag, config, folder, read_state, chosen=weights_key is not None)
    of_texts = network.base_model.main_input_name == "input_ids"
    dense, inputs = (_text if of_texts else _image)(flag, network, folder, size, option)
    named = _with_embedding(flag, dense, projection_of(flag, network.config, read_state()), tower)
    relevant = {field: value for field, value in described.items() if not _IRRELEVANT.fullmatch(field)}
    hashed = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]
    title = folder_safe_name(hub_title(identifier))
    with torch.no_grad():
        # by the files' own names, as a network's change from one `transformers` to the next
        weights_sha256 = sha256_of_state(without_prefix(read_state(), prefix))
        architecture = "/".join(filter(None, ["hf", config.model_type, hashed, option]))
        teacher = freeze(title, architecture, named, inputs, None, weights_sha256)
    return replace(teacher, settings=_settings_of(named))


def folder_here(spec: str, weights: str | None) -> Path | None:
    """Where the files of such a teacher lie on this disk; None of another teacher, or where they do not."""
    from huggingface_hub import try_to_load_from_cache

    name, _, identifier = _tower(spec.partition(":statistics=")[0])[0].partition(":")
    identifier = (weights or _NAMED[name]) if name in _NAMED else identifier if name == "hf" else ""
    folder = local_folder(identifier) if identifier else None
    if folder is None and re.fullmatch(r"[\w.-]+/[\w.-]+", identifier):
        downloaded = try_to_load_from_cache(identifier, _SETTINGS)
        folder = Path(downloaded).parent if isinstance(downloaded, str) else None
    return folder


def _tower(spec: str) -> tuple[str, str]:
    """The spec without `:text`, and the field of a config that has the tower which is meant."""
    of_text = re.fullmatch(r"(hf:.+):text", spec)
    return (of_text[1], _TEXT_TOWER) if of_text else (spec, "vision_config")


def _with_embedding(flag: str, named: DenseNetwork, projection: nn.Module | None, tower: str) -> nn.Module:
    """The network with the embedding of its tower, where it is one of two that were trained together."""
    if tower == _TEXT_TOWER:
        assert isinstance(named, TextEncoder)
        return TextTower(named.encoder, projection, flag)
    if isinstance(named, NamedTokens) and projection is not None:
        named.embed_by(projection)
    return named


def _image(
    flag: str, network: transformers.PreTrainedModel, folder: Path, size: int | None, option: str
) -> tuple[DenseNetwork, InputSpec]:
    if option:
        raise BadInput(f"{flag}: an image has no padding; leave statistics out")
    inputs = read_input(flag, folder, network.config, None if size is None else int(size))
    return NamedTokens(network, inputs.image_size, flag), inputs


def _text(
    flag: str, network: transformers.PreTrainedModel, folder: Path, size: int | None, option: str
) -> tuple[DenseNetwork, InputSpec]:
    tokenizer, config = TextTokenizer.of_folder(flag, folder), network.config
    if tokenizer.vocabulary.size > config.vocab_size:
        found = f"{tokenizer.vocabulary.size:,} tokens, its network {config.vocab_size:,}"
        raise BadInput(f"{flag}: the tokenizer in {folder} has {found}: put the model's own beside its weights")
    return TextEncoder(network, option != "valid"), TextInput.up_to(num_positions(network), size, tokenizer, flag)


def _settings_of(network: nn.Module) -> dict[str, Any] | None:
    if isinstance(network, TextEncoder):
        return asdict(network.settings)
    return {"depth": network.depth} if isinstance(network, DenseNetwork) else None


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
    files = f"{_SETTINGS}, {SAFETENSORS} and {PROCESSORS[0]} or tokenizer.json"
    given = "--weights DIR" if identifier in _NAMED.values() else "--teacher hf:DIR"
    wanted = [_SETTINGS, *PROCESSORS, *_TOKENIZERS, *_SAFETENSORS]
    return hub_folder(flag, identifier, f"download its {files} elsewhere and give {given}", wanted, _PICKLES)


def _read_config(flag: str, folder: Path, tower: str) -> tuple[transformers.PretrainedConfig, dict[str, Any]]:
    """The config of the network or of its `tower`, for `transformers` and as the file has it."""
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
    of_tower = described.get(tower)
    return getattr(config, tower, None) or config, of_tower if isinstance(of_tower, dict) else described
