"""The flag --read: how the rows of a cache are read."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from shards.bucket_rows import Bound, set_bound
from shards.checked import CheckedFiles
from shards.command.sizes import parse_bytes
from shards.errors import BadInput
from shards.storage.originals import give

CHECKS = ("always", "once")
_SIZES = "local_cache=50GB or local_cache=500MB"


class ReadSettings(NamedTuple):
    """What the flag says."""

    check: str = "always"
    """Rows' checksums: `always`, or `once` by the first reading alone."""
    local_cache: int | None = None
    """Bytes of the disk that rows from a bucket may take; None: the default (`shards/bucket_rows.py`)."""
    views_a_batch: int | None = None
    """Views of a sample in a batch (`BatchOrder`); None: the recipe's."""
    data: tuple[tuple[str, str | None], ...] = ()
    """Where the original data are, of which views that store no image are rendered (`extract/named.py`), each with its
    data_dir, a local copy.
    """


_NEXT = re.compile(rf",(?=(?:{'|'.join(ReadSettings._fields)}|data_dir)=)")
"""Between two settings: a column of --data stands behind a comma too."""


def parse_read(flag: str | None) -> ReadSettings:
    """What `--read check=always,local_cache=50GB,data=folder:PATH` says; BadInput for what is no setting of it."""
    settings = ReadSettings()
    for setting in _NEXT.split(flag) if flag else ():
        name, _, value = setting.partition("=")
        if name == "check" and value in CHECKS:
            settings = settings._replace(check=value)
        elif name == "local_cache":
            settings = settings._replace(local_cache=parse_bytes(f"--read {setting}", value, _SIZES))
        elif name == "views_a_batch" and value.isdecimal() and int(value) > 0:
            settings = settings._replace(views_a_batch=int(value))
        elif name == "data" and value:
            settings = settings._replace(data=(*settings.data, (value, None)))
        elif name == "data_dir" and value:
            if not settings.data or settings.data[-1][1] is not None:
                raise BadInput(f"--read {setting}: is a copy of what? give data= before it, as --data does")
            settings = settings._replace(data=(*settings.data[:-1], (settings.data[-1][0], value)))
        else:
            expected = (
                "check=always, check=once, local_cache=SIZE, views_a_batch=NUMBER, data=SCHEME:PATH or data_dir=PATH"
            )
            raise BadInput(f"--read {setting}: expected {expected}, several separated by commas")
    return settings


def apply_read(settings: ReadSettings, files: Iterable[CheckedFiles], shards: str, rank: int, num_ranks: int) -> None:
    """The sets that `--shards SHARDS` names, whose files these are, are read so by this rank, in this process.

    BadInput for a local cache where none of them lies in a bucket.
    """
    every = list(files)
    if settings.data:
        give(settings.data)
    if settings.local_cache is not None and not any(each.mirrored for each in every):
        raise BadInput(
            f"--read local_cache: --shards {shards} lies in a folder, which is read where it is; leave it out"
        )
    for each in every:
        each.check = settings.check
    set_bound(Bound(settings.local_cache, rank, num_ranks))
