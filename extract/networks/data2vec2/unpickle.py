"""Reading a fairseq checkpoint without running a line of its code: `torch.load(weights_only=True)`, always.

A file of fairseq's own trainer holds nothing else than tensors and plain containers. Others hold omegaconf nodes, numpy
scalars, dataclasses: the names on the list below are loaded as inert stand-ins, every other name is refused.
"""

import errno
import itertools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError  # the error's name only
from struct import error as StructError
from typing import Any

import torch

from shards.archive import is_archive
from shards.errors import BadInput

_ALLOWED = re.compile(
    r"argparse\.Namespace|collections\.defaultdict|_operator\.getitem|typing\.[A-Z][A-Za-z]*"
    r"|builtins\.(bool|bytes|dict|float|int|list|object|set|str|tuple)"
    r"|numpy\.dtype|numpy\.(_core|core)\.multiarray\.scalar"
    r"|omegaconf\.(dictconfig\.DictConfig|listconfig\.ListConfig|base\.(ContainerMetadata|Metadata))"
    r"|omegaconf\.nodes\.(Any|String|Integer|Float|Boolean|Enum)Node"
    r"|fairseq\.data\.dictionary\.Dictionary"
    # dataclasses and enums of the configuration; `data2vec.` where fairseq got them through --user-dir
    r"|(fairseq|(examples\.)?data2vec)(\.\w+)*\.\w*Config"
    r"|(examples\.)?data2vec\.(data\.modality\.Modality|models\.mae_image_classification\.PredictionMode)"
)
_MODALITIES = {1: "AUDIO", 2: "IMAGE", 3: "TEXT"}
# what torch.load raises on bytes that are no pickle, or half of one, or a pickle of something else
_MALFORMED = (
    UnpicklingError,
    StructError,
    RuntimeError,
    ValueError,
    EOFError,
    MemoryError,  # of a size that the pickle only claims
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    zipfile.BadZipFile,
)
_MAX_CFG_NODES = 100_000  # an official cfg has about 1,500; a pickle can name one list in another over and over


class StandIn:
    """What is left of a foreign object: the arguments and the state it was pickled with."""

    name = ""  # as pickled: every foreign name gets a class of its own
    arguments: tuple[Any, ...]
    state: Any

    # torch.load calls the class or only its __new__, as the pickle says: neither looks at the arguments
    def __new__(cls, *arguments: Any) -> "StandIn":  # noqa: D102
        self = super().__new__(cls)
        self.arguments, self.state = arguments, None
        return self

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _new_dict(*_arguments: Any) -> dict[Any, Any]:
    """Stands in for collections.defaultdict, which torch.load fills like a dict and therefore wants to be one."""
    return {}


def read_checkpoint(file: Path) -> dict[str, Any]:
    """The file's top level, on the CPU, with its cfg made plain; tensors are mapped from the file, not yet read.

    Raises BadInput where there is no such file, where it is no checkpoint or a truncated one, and where it names a
    class or function that is not on the list; the message prints the name.
    """
    if not file.is_file():
        raise BadInput(f"{file}: no such file; give the path of a data2vec 2.0 checkpoint (.pt)")
    try:
        is_zip = is_archive(file)
        foreign = _foreign_names(file) if is_zip else []
        stand_ins: list[Any] = [(_stand_in(name), name) for name in foreign]
        with torch.serialization.safe_globals(stand_ins):
            # files older than torch 1.6 are no zip archive and cannot be mapped
            content = torch.load(str(file), map_location="cpu", weights_only=True, mmap=is_zip)
        if isinstance(content, dict):
            content["cfg"] = plain(content.get("cfg"), itertools.count())
    except _MALFORMED as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # no permission, a failing disk; a truncated archive is an invalid argument
        # torch's own message advises weights_only=False, so it is not passed on
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise BadInput(_refusal(file, [refused[1]])) from error
        raise BadInput(
            f"{file}: not a PyTorch checkpoint, or a truncated one ({type(error).__name__}); "
            "download it again and compare its size with the source's"
        ) from error
    if not isinstance(content, dict):
        raise BadInput(f"{file}: expected a fairseq checkpoint (a mapping), found {type(content).__name__}")
    return content


def _foreign_names(file: Path) -> list[str]:
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            # torch.save never compresses: a few bytes could unfold to any size
            raise BadInput(f"{file}: its archive is compressed, as torch.save writes none; use the original file")
    names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    refused = [name for name in names if not _ALLOWED.fullmatch(name)]
    if refused:
        raise BadInput(_refusal(file, refused))
    return names


def _refusal(file: Path, names: list[str]) -> str:
    shown = ", ".join(f"{name!r:.80}" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"{file}: refused, its pickle names {shown}, which no data2vec 2.0 checkpoint needs; nothing of it was run. "
        "Use a file from the official source, or save its 'cfg' (as plain dicts) and 'model' anew"
    )


def _stand_in(name: str) -> Any:
    return _new_dict if name == "collections.defaultdict" else type("StandIn", (StandIn,), {"name": name})


def plain(value: Any, visited: Iterator[int]) -> Any:
    """Nested dicts, lists and scalars for whatever a cfg was pickled as: omegaconf's `_content`, `_val` are followed,
    dataclasses and namespaces become dicts, Modality becomes "AUDIO", "IMAGE" or "TEXT"; other stand-ins stay."""
    if next(visited) > _MAX_CFG_NODES:
        raise ValueError("the cfg is too large")
    if isinstance(value, dict):
        return {key: plain(item, visited) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, visited) for item in value]
    if not isinstance(value, StandIn):
        return value
    if isinstance(value.state, dict):
        for content in ("_content", "_val"):
            if content in value.state:
                return plain(value.state[content], visited)
        return plain(value.state, visited)
    if value.name.endswith(".Modality") and len(value.arguments) == 1:
        return _MODALITIES.get(value.arguments[0], value)
    return value
