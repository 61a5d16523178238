"""Losses: what a disk may hold after a loss of power, for every moment of a command.

After ALICE (Pillai et al. 2014, OSDI, section 3.1), with the weakest file system that POSIX allows: what was not synced
may be lost or not, call by call and in any order. The data of a file are safe when the file was synced, and a name when
its folder was. Lost data leave a file empty, cut off at any sector, with a sector of zeros, full of zeros or of
something else; a renamed file may have both its names.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from posixpath import dirname

from recorder import ROOT, Call, Disk

SECTOR = 512
"""Bytes that a disk writes whole; a page is eight of them."""
MANY = 512
"""Losses of one moment: all of them where there are no more, else the plain ones, and so many drawn at random."""

Lost = Mapping[int, str]
"""Calls by their place, and how each is lost: one of `ways`."""
State = tuple[int, Lost]
"""A moment, by the number of calls before it, and what of these is lost."""
Promises = Mapping[str, frozenset[bytes]]
"""By the name of a file, what it may hold."""


def ways(call: Call) -> list[str]:
    """How a call may be lost: its name or none of its data; half or a part of them; zeros for all or for a sector; what
    lay on the disk before."""
    if call.kind == "rename":
        return ["none", "both"]
    if call.kind != "write":
        return ["none"]
    sectors = range(0, len(call.data), SECTOR)
    return ["none", "half", "zeros", "garbage", *(f"cut {at}" for at in sectors[1:]), *(f"hole {at}" for at in sectors)]


def damaged(data: bytes, way: str) -> bytes:
    """What is left of the data of a write."""
    kind, _, at = way.partition(" ")
    if kind == "hole":
        hole = slice(int(at), int(at) + SECTOR)
        return data[: hole.start] + bytes(len(data[hole])) + data[hole.stop :]
    if kind == "garbage":
        return random.Random(len(data)).randbytes(len(data))
    return {"none": b"", "half": data[: len(data) // 2], "zeros": bytes(len(data)), "cut": data[: int(at or 0)]}[kind]


def safe_since(calls: Sequence[Call]) -> list[float]:
    """For each call, how many must have been made for it to be on the disk for good; a sync has nothing to lose."""
    of_names, of_data = dict[str, int](), dict[int, int]()
    found: list[float] = []
    for place, call in reversed(list(enumerate(calls))):
        if call.kind == "sync":
            of_names |= {call.path: place + 1} if call.file < 0 else {}
            of_data |= {call.file: place + 1} if call.file >= 0 else {}
            found.append(0)
        else:
            found.append(of_names.get(call.place, math.inf) if call.is_of_names else of_data.get(call.file, math.inf))
    return found[::-1]


def losses(calls: Sequence[Call], seed: int = 0) -> Iterator[Lost]:
    """What may be lost after these calls, in an order by the seed; each loss once, but for those that are drawn."""
    since, draw = safe_since(calls), random.Random(f"{seed} {len(calls)}")
    unsafe = {place: ways(call) for place, call in enumerate(calls) if since[place] > len(calls)}
    if math.prod(len(each) + 1 for each in unsafe.values()) <= MANY:
        every = list(product(*(["", *each] for each in unsafe.values())))
        draw.shuffle(every)
        for chosen in every:
            yield {place: way for place, way in zip(unsafe, chosen, strict=True) if way}
        return
    plain: list[tuple[int | None, bool]] = [(place, alone) for place in (None, *unsafe) for alone in (True, False)]
    draw.shuffle(plain)
    for one, alone in plain:  # none, all, each alone, all but each
        yield {place: draw.choice(each) for place, each in unsafe.items() if (place == one) == alone}
    for _ in range(MANY):
        share = draw.random()
        yield {place: draw.choice(each) for place, each in unsafe.items() if draw.random() < share}


def replayed(before: Disk, calls: Sequence[Call], lost: Lost) -> Disk:
    """The disk after the calls, of which some are lost."""
    disk = before.copy()
    for place, call in enumerate(calls):
        way = lost.get(place)
        if way is not None and call.kind == "write":
            disk.apply(Call("write", file=call.file, data=damaged(call.data, way)))
        elif way == "both":
            disk.apply(Call("link", call.path, call.file))
        elif way is None and call.kind != "sync":
            disk.apply(call)
    return disk


def promises(before: Disk, calls: Sequence[Call], promised: Callable[[str], bool]) -> Iterator[Promises]:
    """For every moment what each promised file may hold: what it held when its name was synced last, or before the
    command, and what was put there since."""
    now, fresh = before.copy(), dict[str, dict[str, bytes]]()
    safe = {name: frozenset({content}) for name, content in before.files().items() if promised(name)}
    yield dict(safe)
    for call in calls:
        now.apply(call)
        if call.kind in ("unlink", "rmdir"):  # it is being removed, and all that lies in its folder with it
            place = f"{call.place}/" if promised(call.path) else call.path
            safe = {name: held for name, held in safe.items() if not name.startswith(place)}
            fresh = {folder: names for folder, names in fresh.items() if not f"{folder}/".startswith(place)}
        elif call.kind == "sync" and call.file < 0:
            safe |= {name: frozenset({content}) for name, content in fresh.pop(call.path, {}).items()}
        elif call.is_of_names and call.kind != "mkdir":
            for names in (safe, fresh.get(dirname(call.former) or ROOT, {})):
                names.pop(call.former, None)
            if promised(call.path):
                content = now.data[call.file]
                fresh.setdefault(call.place, {})[call.path] = content
                if call.path in safe:
                    safe[call.path] |= {content}
        yield dict(safe)


def distinct(
    before: Disk, calls: Sequence[Call], promised: Callable[[str], bool], count: int, seed: int = 0
) -> list[State]:
    """`count` states of all moments alike whose disks differ, or all that were found; AssertionError for a disk that
    lacks what was promised."""
    due, left = list(promises(before, calls, promised)), {at: losses(calls[:at], seed) for at in range(len(calls) + 1)}
    seen, hashes, found = set[bytes](), dict[bytes, bytes](), list[State]()
    moments = list(left)
    random.Random(seed).shuffle(moments)
    while left:
        for moment in moments:
            lost = next(left[moment], None) if moment in left else None
            if lost is None:
                left.pop(moment, None)
                continue
            disk = replayed(before, calls[:moment], lost)
            files = disk.files()
            for name, held in due[moment].items():
                where = f"after {moment} calls, of which {dict(lost)} is lost"
                assert files.get(name) in held, f"{name}: was synced, and is lost or torn: {where}"
            if (digest := _digest(disk, files, hashes)) not in seen:
                seen.add(digest)
                found.append((moment, lost))
                if len(found) == count:
                    return found
    return found


def _digest(disk: Disk, files: Mapping[str, bytes], hashes: dict[bytes, bytes]) -> bytes:
    """Of all names and contents; those of contents are kept in `hashes`."""
    digest = hashlib.sha256(repr(disk.reached()).encode())
    for name, content in sorted(files.items()):
        if content not in hashes:
            hashes[content] = hashlib.sha256(content).digest()
        digest.update(f"{name} {len(content)} ".encode() + hashes[content])
    return digest.digest()
