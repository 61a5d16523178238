"""Trained networks on disk: RUN/student.safetensors and RUN/student.json, which says how to rebuild and feed it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from extract.modalities import input_of
from shards.commit import write_atomically
from shards.errors import BadInput
from shards.identity import sha256_of
from shards.records import FileRecord
from shards.sealed import check_seal, fields_of, read_object, sealed
from shards.views import DEFAULT_MODALITY

if TYPE_CHECKING:
    import torch

    from extract.modalities.base import InputSpec

FORMAT = 1
_WEIGHTS_FILE = "student.safetensors"
_CONFIG_FILE = "student.json"
EXPORT_AGAIN = "export the run again"
_MAX_CLASSES = 1 << 24
MAX_SIZE = 4096
"""The largest width, depth or image size that anything here may ask for."""


class StudentDocument(msgspec.Struct):
    """student.json: how to rebuild a network; its modality checks what it is fed, and all else is kept."""

    architecture: str
    arguments: dict[str, Any]
    num_classes: Annotated[int, msgspec.Meta(ge=1, le=_MAX_CLASSES)] | None
    class_names: list[str] | None
    weights: FileRecord | None = None

    def __post_init__(self) -> None:
        if self.arguments.keys() & {"architecture", "num_classes"}:
            raise ValueError(f"arguments cannot be {repr(self.arguments)[:60]}")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class_names, but num_classes is {self.num_classes}")


def export_network(folder: Path, network: "torch.nn.Module", config: dict[str, Any]) -> None:
    """`folder` holds `network` so that `load_exported` rebuilds it bit for bit; student.json is written last.

    `config` gives architecture, arguments, num_classes, class_names and the `input_document`; whatever else it holds is
    kept. The format, the weights' size and SHA-256 and the document's own SHA-256 are added. Raises BadInput when
    the network is not the one that `config` describes.
    """
    from safetensors.torch import save

    from extract.networks.state_dict import mismatches

    config = {**json.loads(json.dumps(config)), "format": FORMAT}
    _checked(config, f"{folder}: the configuration to export")
    # a copy each, as safetensors refuses tensors that share memory
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    if phrases := mismatches(_rebuilt(config), state):
        raise BadInput(f"{folder}: the network to export is no {config['architecture']}: {', '.join(phrases)}")
    record = write_atomically(folder / _WEIGHTS_FILE, save(state))
    write_atomically(folder / _CONFIG_FILE, sealed({**config, "weights": record}))


def load_exported(run_dir: Path | str) -> tuple["torch.nn.Module", dict[str, Any]]:
    """The network exported to `run_dir`, on the CPU in eval mode, and its configuration.

    Raises BadInput when the run is missing, half written, altered, or of a later format.
    """
    from extract.networks.state_dict import load_weights, parse_state_dict

    run_dir = Path(run_dir)
    config = _read_config(run_dir / _CONFIG_FILE)
    path = run_dir / _WEIGHTS_FILE
    data = path.read_bytes() if path.is_file() else b""
    if sha256_of(data) != config["weights"]["sha256"]:
        found = f"{len(data)} bytes with another SHA-256" if path.is_file() else "no such file"
        raise BadInput(f"{path}: expected the weights that {_CONFIG_FILE} names, found {found}; export the run again")
    network = _rebuilt(config)
    load_weights(network, parse_state_dict(data, str(path)), str(path), config["architecture"])
    return network.eval(), config


def _rebuilt(config: dict[str, Any]) -> "torch.nn.Module":
    import torch

    from extract.networks import build_network

    with torch.device("meta"):  # no memory is taken until the weights are known to fit
        return build_network(config["architecture"], config["num_classes"], **config["arguments"])


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give the folder of a run that `python -m distill` finished")
    config = read_object(path, EXPORT_AGAIN)
    version = config.get("format")
    if type(version) is not int or version != FORMAT:
        found = repr(version)[:60]
        raise BadInput(f"{path}: expected format {FORMAT}, found {found}; install the version that wrote it")
    check_seal(path, config, EXPORT_AGAIN, BadInput)
    if _checked(config, str(path)).weights is None:
        raise BadInput(f"{path}: weights: expected a record, found none; {EXPORT_AGAIN}")
    return config


def _checked(config: dict[str, Any], where: str) -> StudentDocument:
    document = fields_of(config, StudentDocument, where, remedy=EXPORT_AGAIN, error=BadInput)
    exported_input(config, where)
    return document


def input_document(inputs: "InputSpec") -> dict[str, Any]:
    """What student.json says of a network's input; an image's size, mean and std stand there as they always did too."""
    described = inputs.describe()
    return {**described, "input": {"modality": inputs.modality, **described}}


def exported_input(
    config: dict[str, Any], where: str, folder: Path | None = None, size: int | None = None
) -> "InputSpec":
    """What the exported network in `folder` takes; `size` takes the place of its own. BadInput where it is no input."""
    described = config.get("input") or {name: config.get(name) for name in ("image_size", "mean", "std")}
    if not isinstance(described, dict):
        raise BadInput(f"{where}: input cannot be {str(described)[:80]}")
    return input_of(where, str(described.get("modality", DEFAULT_MODALITY)), described, folder, size)
