"""A local copy of a known dataset (`--data_dir`), in parquet files or in folders."""

from dataclasses import replace
from pathlib import Path

from extract.sources.base import Source
from extract.sources.columns import ColumnChoice
from extract.sources.folder import open_folder
from extract.sources.parquet import open_parquet
from shards.errors import BadInput


def open_local_copy(data_dir: str, split: str, choice: ColumnChoice) -> Source:
    """The copy in `data_dir`: its parquet files if it has any (at the top or one folder down), else its images."""
    flag, root = f"--data_dir {data_dir}", Path(data_dir).expanduser()
    if not root.is_dir():
        raise BadInput(f"{flag}: no folder is found at {root}: it must hold parquet files or split/class/image")
    if any(root.glob("*.parquet")) or any(root.glob("*/*.parquet")):
        return open_parquet(flag, data_dir, split, replace(choice, data=f"parquet:{data_dir}"))
    if choice.image is not None or choice.label is not None:
        raise BadInput(f"{flag}: holds folders of images, which have no columns: write --data {choice.data}")
    return open_folder(flag, data_dir, split, captions="")
