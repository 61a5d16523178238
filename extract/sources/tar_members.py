"""The plain members of a tar, by its headers alone: links resolved, archives joined by `cat` read one after another."""

import os
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from extract.sources.splits import find_files, found_files
from shards.errors import BadInput
from shards.tar import TAR_ERRORS, headers

_UNPACK = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
"""What unpacks a file that begins so."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SCAN_BYTES = 1 << 20


class Member(NamedTuple):
    """One plain file of a tar: its name and where its content lies."""

    name: str
    offset: int
    size: int
    sparse: bool
    """Stored without its holes, so that its content does not lie there in one piece."""


def find_tars(flag: str, path: str) -> tuple[Path, list[Path], list[Path]]:
    """The folder that names are relative to, the tars at `path`, and the compressed ones beside them, left out.

    Compressed tars alone are refused: samples are read in place, in any order, which a compressed file does not allow.
    """
    compressed = found_files(flag, path, *COMPRESSED)
    try:
        root, tars = find_files(flag, path, ".tar")
    except BadInput:
        if not compressed:
            raise
        raise BadInput(f"{flag}: {_compressed_line(compressed[0])}") from None
    return root, tars, [file for file in compressed if file not in tars]


def unpacking(file: Path) -> str | None:
    """The command that unpacks a compressed file, by its first bytes; None for a file that is not compressed."""
    start = read(file, 0, 8)
    return next((command for magic, command in _UNPACK.items() if start.startswith(magic)), None)


def _compressed_line(tar: Path) -> str:
    return f"{tar.name} is compressed, and samples are read in place: {unpacking(tar) or 'gunzip'} {tar}"


def members(flag: str, tar: Path) -> Iterator[Member]:
    """The plain files of a tar that is whole, in stored order; of a link, the file that it leads to under its name.

    Raises BadInput for a tar that is cut, damaged or compressed, at its end, and for a link that leads out of it.
    """
    plain: dict[str, Member] | None = None
    for header in _headers(flag, tar):
        if header.isreg():
            yield _member(header.name, header)
        elif header.islnk() or header.issym():
            if plain is None:  # all, as a link may come before its file
                plain = {posixpath.normpath(each.name): _member(each.name, each) for each in _plain(flag, tar)}
            found = _linked(header, plain)
            if found is not None:
                yield found._replace(name=header.name)
            elif header.islnk() or "." in posixpath.basename(header.name):
                raise BadInput(
                    f"{flag}: {header.name} of {tar.name} is a link to {header.linkname}, which is no file in it: "
                    "write it with tar --dereference --hard-dereference"
                )


def _member(name: str, header: tarfile.TarInfo) -> Member:
    return Member(name, header.offset_data, header.size, header.issparse())


def _plain(flag: str, tar: Path) -> Iterator[tarfile.TarInfo]:
    return (header for header in _headers(flag, tar) if header.isreg())


def _linked(header: tarfile.TarInfo, plain: dict[str, Member]) -> Member | None:
    """The plain file to which a hard link (by its name in the tar) or a symbolic one (from its own folder) leads."""
    above = posixpath.dirname(header.name) if header.issym() else ""
    return plain.get(posixpath.normpath(posixpath.join(above, header.linkname)))


def _headers(flag: str, tar: Path) -> Iterator[tarfile.TarInfo]:
    """The headers of every archive in the file; `tarfile` alone ends at the first, or at a damaged header."""
    start: int | None = 0
    with tar.open("rb") as stream:
        while start is not None:
            stream.seek(start)
            try:
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    yield from headers(archive)
                    end = archive.offset
            except TAR_ERRORS as error:
                raise BadInput(f"{flag}: {_refusal(tar, error)}") from error
            if read(tar, end, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                where = f"{tar.name} is cut or damaged at byte {end}"
                raise BadInput(f"{flag}: {where} (no member, no end-of-archive mark): fetch it again")
            start = _next_archive(tar, end)


def _next_archive(tar: Path, end: int) -> int | None:
    """The first block from `end` on that is not all zero: tars joined by `cat` have one after each end mark."""
    while piece := read(tar, end, _SCAN_BYTES):
        zeros = len(piece) - len(piece.lstrip(b"\0"))
        if zeros < len(piece):
            return end + zeros // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        end += len(piece)
    return None


def _refusal(tar: Path, error: Exception) -> str:
    magic = read(tar, 0, 8)
    if any(magic.startswith(each) for each in _UNPACK):
        return _compressed_line(tar)
    return f"{tar.name} is no whole tar ({error}): fetch it again"


def read(tar: Path, offset: int, size: int) -> bytes:
    """`size` bytes at `offset`, fewer only at the file's end; no shared file position, so threads may call it."""
    with tar.open("rb", buffering=0) as stream:
        return os.pread(stream.fileno(), size, offset)
