"""Mutations: valid small files spoilt as one who means harm would, drawn at random.

A spoiling is plain numbers; what they do depends on what is spoilt. A JSON document has a value changed, and its seal
and the record in its set's manifest written anew, so that the change passes every check of hashes.
"""

import contextlib
import copy
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from shards.identity import sha256_of
from shards.sealed import sealed

Step = tuple[int, int, int, bytes]
"""What is done, where, how much, and with what."""
_NUMBERS = (0, 1, 255, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**12, 2**63 - 1, 2**64 - 1)
ODD: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 2**31, 2**32, 2**63, 2**64, 10**12, 10**18, 10**400, -(10**18), 0.5, 1e308, -0.0),
    *(float("nan"), float("inf"), True, False, None, "", "0", "1", "x", "x" * 5000, "digits", "float32", "object"),
    *("../../outside", "/etc/passwd", "views/../../outside", "a\\b", "a\0b", "\x1b[2J\x1b]0;x\x07", "\ud800", "\u0663"),
    *("<script>", "{{7*7}}", "!!python/name:os.system", "C:\\outside", "file:///etc/passwd", "hf://datasets/a/b"),
    *("2024-99-99", "=1", [], {}, [[]], [0] * 2000, [None], ["x"], [1, 2], [2**62, 2**62], [-1], {"a": {}}, {"": 0}),
    {"kind": "none"},
)
"""Values that stand where another one is expected; 10**400 is more than a float holds."""

Spoiling = tuple[int, int, list[Step]]
"""Which file, whether as bytes (0) or by its own structure, and what is done to it."""


def drawn(random: Random) -> Spoiling:
    """A spoiling of one to three steps. Hypothesis, which would keep a tree of all of them, takes ten times as long."""
    draw = random.randrange
    todo = [(draw(16), draw(1 << 16), draw(1 << 16), random.randbytes(draw(7))) for _ in range(1 + draw(3))]
    return draw(256), draw(4), todo


def of_bytes(data: bytes, todo: list[Step]) -> bytes:
    """`data` with bits flipped, runs left out, doubled, overwritten or put in, numbers changed, or its end cut off."""
    spoilt = bytearray(data)
    for kind, where, much, content in todo:
        at, length = where % (len(spoilt) + 1), 1 + much % 16
        match kind % 8:
            case 0 if spoilt:
                spoilt[at % len(spoilt)] ^= 1 << much % 8
            case 1:
                del spoilt[at : at + (length if much & 1 else much)]
            case 2:
                spoilt[at:at] = spoilt[at : at + much % 512]
            case 3:
                spoilt[at:at] = content or b"\0"
            case 4:
                spoilt[at : at + len(content)] = content
            case 5:
                form = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")[much % 7]
                size = struct.calcsize(form)
                spoilt[at : at + size] = struct.pack(form, _NUMBERS[much // 7 % len(_NUMBERS)] % (1 << 8 * size))
            case 6:
                del spoilt[at:]
            case _ if spoilt:
                spoilt[at % len(spoilt)] = much % 256
    return bytes(spoilt)


def of_json(data: bytes, todo: list[Step]) -> bytes:
    """The JSON document `data` with values changed, taken out, doubled or nested; sealed anew where it was sealed."""
    document = json.loads(data)
    was_sealed = isinstance(document, dict) and document.pop("sha256", None) is not None
    for kind, where, much, content in todo:
        places = list(_places(document))
        if not places:
            break
        parent, name = places[where % len(places)]
        match kind % 8:
            case 0 | 1 | 2 | 3:
                parent[name] = copy.deepcopy(ODD[much % len(ODD)])
            case 4:
                del parent[name]
            case 5 if isinstance(parent, list):
                parent.insert(much % (len(parent) + 1), copy.deepcopy(parent[name]))
            case 5:
                parent[f"{name}{much % 3}"] = copy.deepcopy(parent[name])
            case 6:
                other, there = places[much % len(places)]
                parent[name] = json.loads(_dumped(other[there]))
            case _ if isinstance(parent[name], str):
                parent[name] = of_bytes(parent[name].encode(errors="replace"), [(much, much, where, content)]).decode(
                    errors="replace"
                )
            case _:
                parent[name] = [parent[name]] if much & 1 else {"x": parent[name]}
    with contextlib.suppress(ValueError, RecursionError):
        return sealed(document) if was_sealed else _dumped(document)
    return _dumped(document)


def _dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in `document`, by what holds it and its name there."""
    if isinstance(document, dict | list):
        names = list(document) if isinstance(document, dict) else range(len(document))
        for name in names:
            yield document, name
            yield from _places(document[name])


def of_tar(data: bytes, todo: list[Step]) -> bytes:
    """A tar with fields of its headers changed, whose checksums fit."""
    spoilt = bytearray(data)
    fields = ((0, 100), (124, 12), (156, 1), (157, 100), (345, 155), (257, 8), (100, 8))
    sizes = (
        b"77777777777\0",
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"-0000000001\0",
        b"00000000000\0",
        b"1234567 890\0",
    )
    names = (b"../../outside", b"/etc/passwd", b"a\x1b[2Jb.jpg", b"\xff\xfe.jpg", b"", b"a/b/c.jpg", b"x" * 100, b"..")
    starts = [at for at in range(0, len(spoilt) - 511, 512) if spoilt[at + 257 : at + 262] == b"ustar"]
    for kind, where, much, content in todo:
        if not starts:
            break
        at = starts[where % len(starts)]
        offset, size = fields[kind % len(fields)]
        types = (b"0", b"1", b"2", b"5", b"x", b"L", b"g", b"S", b"\0", content)
        value = {12: sizes, 100: names, 155: names}.get(size, types)
        chosen = value[much % len(value)][:size]
        spoilt[at + offset : at + offset + size] = chosen.ljust(size, b"\0")
        spoilt[at + 148 : at + 156] = b" " * 8
        spoilt[at + 148 : at + 156] = b"%06o\0 " % sum(spoilt[at : at + 512])
    return bytes(spoilt)


def of_png(data: bytes, todo: list[Step]) -> bytes:
    """A PNG with bytes of its chunks changed, whose checksums fit."""
    chunks, at = list[tuple[bytes, bytes]](), 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    for kind, where, much, content in todo:
        number = where % len(chunks)
        name, body = chunks[number]
        chunks[number] = (name, of_bytes(body, [(kind, much, where, content)]))
    written = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return data[:8] + b"".join(written)


def of_zip(data: bytes, todo: list[Step]) -> bytes:
    """A checkpoint of torch with bytes of its members changed, mostly of its pickle; now and then compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {each.filename: archive.read(each) for each in archive.infolist()}
    pickles = [name for name in members if name.endswith(".pkl")]
    for kind, where, much, content in todo:
        name = pickles[0] if kind < 12 and pickles else list(members)[much % len(members)]
        members[name] = of_bytes(members[name], [(kind, where, much, content)])
    packed = zipfile.ZIP_DEFLATED if todo[0][0] == 15 else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def of_safetensors(data: bytes, todo: list[Step]) -> bytes:
    """A file of safetensors whose header has values changed, and its length right."""
    size = int.from_bytes(data[:8], "little")
    header = of_json(data[8 : 8 + size], todo)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


STRUCTURED: dict[str, Callable[[bytes, list[Step]], bytes]] = {
    ".json": of_json,
    ".tar": of_tar,
    ".png": of_png,
    ".pt": of_zip,
    ".safetensors": of_safetensors,
}
"""By a file's ending, what changes it by its structure."""


def spoilt(path: Path, data: bytes, structured: bool, todo: list[Step]) -> bytes:
    """The file `path`, which holds `data`, spoilt."""
    change = STRUCTURED.get(path.suffix) if structured else None
    return of_bytes(data, todo) if change is None else change(data, todo)


def reseal(viewset: Path, changed: Path) -> None:
    """The manifests of the set that `changed` is of, and of the view set, say what the file is now."""
    for folder in (changed.parent, *changed.parents):
        for manifest in folder.glob("*set.json"):
            with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
                document, name = json.loads(manifest.read_bytes()), changed.relative_to(folder).as_posix()
                if name in document["files"]:
                    content = changed.read_bytes()
                    document["files"][name] = {"size": len(content), "sha256": sha256_of(content)}
                    document.pop("sha256", None)
                    manifest.write_bytes(sealed(document))
        if folder == viewset:
            return
