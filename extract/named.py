"""Named: data are opened where the user names them, never because a cache names them.

A cache may come from anywhere, and its plan may name any folder and any dataset of the hub. So what the user names for
a view set (`extract --data`, `distill --read data=`) is noted on this machine, beside the mirrors and by the view set's
identity, when it has been compared with that identity. Later commands open what the note says.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from extract.sources import SOURCES, open_source
from shards.errors import BadInput
from shards.identity import identity_hash
from shards.mirror import home, write

if TYPE_CHECKING:
    from extract.config import ExtractConfig
    from extract.sources.base import Source
    from shards.cache import ListedViewSet

DEFAULT_SOURCE = "imagenet"
_FOLDER = "named"
_MAX_BYTES = 1 << 16


class Data(NamedTuple):
    """What --data and --data_dir say."""

    data: str
    data_dir: str | None = None

    @property
    def is_built_in(self) -> bool:
        """Whether it comes with a package, so that to open it reads nobody's files."""
        return self.data_dir is None and self.data in SOURCES and not SOURCES[self.data].local_copy

    def whole(self) -> "Data":
        """The same by whole paths, which mean the same in any folder."""
        scheme, _, path = self.data.partition(":")
        where = path.partition(":")[0] or " "  # options follow
        is_path = scheme in SOURCES and (SOURCES[scheme].argument.startswith("PA") or Path(where).exists())
        return Data(
            f"{scheme}:{whole_path(path)}" if is_path else self.data, self.data_dir and whole_path(self.data_dir)
        )


def whole_path(path: str) -> str:
    """The same file in any folder that is the current one."""
    return path if path.startswith(("/", "~")) else f"{Path.cwd()}/{path.removeprefix('./')}"


_HERE: dict[str, Data] = {}
"""What this process was told, by the hash of the view set's identity."""


def know(identity: dict[str, Any], data: Data | None) -> None:
    """This process opens `data`, which the user has named, for the view set of `identity`."""
    if data is not None:
        _HERE[identity_hash(identity)] = data.whole()


def note(identity: dict[str, Any]) -> None:
    """Later processes on this machine open what this one knows for the view set of `identity`."""
    data = _HERE.get(identity_hash(identity))
    if data is not None and not data.is_built_in:
        write_note(identity, data._asdict())


def known(identity: dict[str, Any]) -> Data | None:
    """What the user has named for the view set of `identity` on this machine."""
    if (data := _HERE.get(identity_hash(identity))) is not None:
        return data
    note = read_note(identity, Data._fields)
    return None if note is None or note["data"] is None else Data(note["data"], note["data_dir"])


def named_for(identity: dict[str, Any], request: dict[str, Any]) -> Data | None:
    """What may be opened for the view set of `identity` where nothing is typed: built-in data, or what is `known`.

    `request` is what its plan says. None: only the cache names its data.
    """
    data = Data(request["data"], request.get("data_dir"))
    return data if data.is_built_in else known(identity)


def write_note(identity: dict[str, Any], fields: dict[str, str | None]) -> None:
    """Later processes on this machine read `fields` for the set of `identity`."""
    with suppress(BadInput):  # of a disk that takes nothing: it is to be named again then
        write(_path(identity), json.dumps(fields, sort_keys=True).encode())


def read_note(identity: dict[str, Any], names: Sequence[str]) -> dict[str, str | None] | None:
    """The fields of these names that were noted for the set of `identity`; None where no such note can be read."""
    path = _path(identity)
    with suppress(OSError, ValueError, KeyError, TypeError):
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:
            fields = json.loads(path.read_bytes())
            return {name: None if fields[name] is None else str(fields[name]) for name in names}
    return None


def _path(identity: dict[str, Any]) -> Path:
    return home() / _FOLDER / f"{identity_hash(identity)}.json"


def named(typed: "ExtractConfig", meant: "ExtractConfig", viewsets: Sequence["ListedViewSet"]) -> Data | None:
    """Where the user has named the data that a command of extract means, now or before; None: only the cache names it.

    `meant` are the flags that were `typed`, filled in from the `viewsets`.
    """
    assert meant.data is not None
    data = Data(meant.data, meant.data_dir)
    means = Data(typed.data or DEFAULT_SOURCE, typed.data_dir)
    if not viewsets or data == means or data.is_built_in or typed.data_dir is not None:
        return data  # --data_dir is a copy that the user names, whatever it is a copy of
    return next(filter(None, (known(viewset.identity) for viewset in viewsets)), None)


def of_cache(viewset: "ListedViewSet", data_dir: str | None) -> Data:
    """The data of which a view set was made, as the user has named them; `data_dir` is --data_dir, a copy of them.

    BadInput where only the cache names them.
    """
    request = viewset.request
    if data_dir is not None:
        return Data(request["data"], data_dir)
    found = named_for(viewset.identity, request)
    if found is None:
        raise unnamed(request["data"], request.get("data_dir"), "give --data yourself if you trust them")
    return found


def unnamed(data: object, data_dir: object, remedy: str) -> BadInput:
    """What is raised for data that only a cache names."""
    flags = f"--data {str(data)[:200]}" + (f" --data_dir {str(data_dir)[:200]}" if data_dir else "")
    return BadInput(f"only the cache names its data ({flags}), not you on this machine: {remedy}")


def open_data(data: Data | None, config: "ExtractConfig", needed: bool) -> "Source | None":
    """The source that `config` means, by the `data` that the user has named.

    None, said aloud, where it cannot be opened and is not needed: the views are stored.
    """
    try:
        if data is None:
            raise unnamed(config.data, config.data_dir, "give these flags yourself if you trust them")
        return open_source(data.data, config.split, data.data_dir, config.limit)
    except BadInput as error:
        if needed:
            raise
        print(f"extract: using the stored views; the source cannot be compared with them: {error}", file=sys.stderr)
        return None
