"""Committing: a shard's files, and then its commit record, which is created only if absent."""

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from shards.commit import create, write_atomically
from shards.documents import Commit
from shards.errors import BadInput
from shards.layout import commit_path, inside
from shards.records import record_of
from shards.sealed import sealed


def commit(folder: Path, record: Commit, contents: Mapping[str, bytes | bytearray]) -> None:
    """`contents` (by their paths in the set) and `record` of them are on the disk, by us or by another machine.

    BadInput where another machine has committed other bytes; they stay.
    """
    record = replace(record, files={name: record_of(content) for name, content in contents.items()})
    path, content = inside(folder, commit_path(record.view, record.shard)), sealed(record.document())
    before = path.read_bytes() if path.exists() else None
    if before is None:
        for name, each in contents.items():
            write_atomically(inside(folder, name), each)
        before = create(path, content)
    if before not in (None, content):
        raise BadInput(
            f"{path}: another machine wrote other bytes there (another type of device?); give another --out, or use "
            f"machines of one type"
        )
