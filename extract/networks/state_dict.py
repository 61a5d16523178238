"""State dicts: read from a file that may be anything, and put into the one network they fit."""

import io
import re
import struct
import sys
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from extract.networks import architecture_names, build_network
from extract.networks.weight_sets import choose_set, common_prefix, without_prefix
from shards.errors import BadInput, printable

_COUNTER = "num_batches_tracked"
_NUM_SHOWN = 3


def read_state_dict(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of one set of weights in the file at `path`, without a prefix that all their names share.

    The prefix is said in one line. BadInput where there is no such file, or no set `key` in it.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give the path of a .pth or .safetensors file")
    state = parse_state_dict(path.read_bytes(), str(path), key)
    if prefix := common_prefix(state):
        print(printable(f"{path}: taking the prefix {prefix} off the names of its tensors"), file=sys.stderr)
    return without_prefix(state, prefix)


def parse_state_dict(data: bytes, where: str, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file by their names there, on the CPU; nothing in the file is executed.

    `key` names one of several sets of weights; without it, the one that is taken is said in one line. Raises BadInput,
    which names `where`, for anything that holds no plain state dict.
    """
    state, choice = choose_set(_parsed(data, where), where, key)
    check_stored(state, len(data), where)
    if choice:
        print(printable(f"{where}: {choice}"), file=sys.stderr)
    return state


def _parsed(data: bytes, where: str) -> Any:
    if is_compressed(data):  # a few bytes could unfold to any size
        raise BadInput(f"{where}: its archive is compressed, as torch.save writes none; save the weights anew")
    try:
        # the content decides, not the suffix: a safetensors file is an 8-byte length and a JSON object
        is_safetensors = data[8:9] == b"{"
        return load(data) if is_safetensors else torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise nearly any type on bytes they do not understand
        found = _what_was_found(data, error)
        raise BadInput(f"{where}: {found}; only plain state dicts load (weights_only)") from error


def is_compressed(data: bytes | Path) -> bool:
    """Whether a file is a zip archive with a compressed member."""
    try:
        with zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else data) as archive:
            return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):  # who reads it says what it is
        return False


def check_stored(state: Mapping[str, Tensor], most_bytes: int, where: str) -> None:
    """Raises BadInput for a tensor that is no plain array, or declared larger than its storage and `most_bytes`.

    A stride of 0 lets a small file declare a tensor of any size; small ones are saved so now and then.
    """
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        size = tensor.numel() * tensor.element_size()
        if not plain or size > max(tensor.untyped_storage().nbytes(), most_bytes):
            raise BadInput(f"{where}: tensor {name!r:.80} is not stored as it is declared; save the weights anew")


def _what_was_found(data: bytes, error: Exception) -> str:
    if foreign := re.search(r"GLOBAL (\S+)", str(error)):
        return f"found a pickle with {foreign[1]}, which may run code: save model.state_dict() alone where you trust it"
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"
    return f"found {len(data)} bytes that begin {data[:16]!r}, a truncated file or no weights at all ({reason})"


def mismatches(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """One phrase for each way in which `state` does not fit `network`; empty when it fits.

    A missing batch counter is none: old files lack it, and nothing in the evaluation of a network reads it.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    unexpected = [name for name in state if name not in expected]
    misshaped = [
        f"{name} expected {_shown(tensor)}, found {_shown(state[name])}"
        for name, tensor in expected.items()
        if name in state and _shown(tensor) != _shown(state[name])
    ]
    found = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
    return [
        f"{len(names)} {kind} ({', '.join(names[:_NUM_SHOWN])}{', ...' if len(names) > _NUM_SHOWN else ''})"
        for kind, names in found.items()
        if names
    ]


def _shown(tensor: Tensor) -> str:
    # float16 weights fit a float32 network, quantised ones do not
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"


def load_weights(network: nn.Module, state: Mapping[str, Tensor], where: str, architecture: str) -> None:
    """`network`, which may be on the meta device, holds the tensors of `state`, in its own dtypes, on the CPU.

    Raises BadInput that names `where`, the first keys that do not fit, and the architectures that would.
    """
    if phrases := mismatches(network, state):
        others = fitting_architectures(state)
        hint = f"it fits {' or '.join(others)}" if others else _parts_hint(state)
        raise BadInput(f"{where}: not the weights of {architecture}: {', '.join(phrases)}; {hint}")
    tensors = {
        name: state[name].detach().to(tensor.dtype).contiguous()
        if name in state
        else torch.zeros((), dtype=tensor.dtype)
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(tensors, assign=True)


def _parts_hint(state: Mapping[str, Tensor]) -> str:
    """A trainer's module may hold two networks: then each of the names' first parts could be the one that is meant."""
    nested = {name.partition(".")[0] for name in state if name.count(".") > 1}
    if len(nested) > 1 and nested == {name.partition(".")[0] for name in state}:
        return f"its tensors are parts of {shown(nested)}: --weights FILE:key=NAME takes one of them"
    return "give the weights of that architecture"


def fitting_architectures(state: Mapping[str, Tensor]) -> list[str]:
    """The architectures of the registry, with their default arguments, that `state` fits."""
    heads = [tensor.shape[0] for _, tensor in sorted(state.items()) if tensor.ndim == 2 and len(tensor)]
    if not heads:
        return []
    with torch.device("meta"):
        return [name for name in architecture_names() if not mismatches(build_network(name, heads[-1]), state)]


def shown(keys: Collection[str]) -> str:
    """The first three keys by name and how many more there are, or none."""
    keys = sorted(keys)
    return (", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")) or "none"
