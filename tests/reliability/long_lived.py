"""Long-lived: one process that reads epochs of a cache, or runs whole commands, and notes what it holds of the system.

`python -m long_lived reader|commands FOLDER PLACE URL JOURNAL`: a line of JSON a round, until the process is ended.
"""

import gc
import json
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REST = 4
"""Times as long as a round took, it rests."""


def holds() -> dict[str, int]:
    """Of this process: bytes of memory of its own, open files, threads and mapped ranges."""
    gc.collect()  # what waits for it is no leak
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    maps = Path("/proc/self/maps").read_text().count("\n")
    memory, threads = int(status["RssAnon"].split()[0]) * 1024, int(status["Threads"])
    return {"memory": memory, "files": len([*Path("/proc/self/fd").iterdir()]), "threads": threads, "maps": maps}


def epoch_of(cache: Path, number: int) -> int:
    """A checksum of all that an epoch reads of a cache: views, labels and one target set."""
    from caches import targetset_of, viewset_of

    from shards.loader import BatchLoader, Part
    from shards.order import BatchOrder
    from shards.reader import Component, TargetSet, ViewSet

    views, targets = ViewSet(viewset_of(cache)), TargetSet(targetset_of(cache, "logits"))
    order = BatchOrder([views.usable], 16, [views.num_views])

    def parts() -> Iterator[Part]:
        for batch in range(order.num_batches):
            yield Part(order.epoch(number).readings(batch))

    found = 0
    for batch in BatchLoader([Component(views, [targets])], parts, 16, labels=True, num_threads=2):
        rows = [*batch.fields.values(), *(each for sets in batch.targets.values() for each in sets.values())]
        for row in rows:
            found = zlib.crc32(row.numpy(), found)
    return found


def read(folder: Path, place: Path, url: str, number: int) -> str:
    """An epoch of the folder and the same one through the bucket's mirror are the same; or the disk is full."""
    from shards.errors import BadInput
    from shards.remote import mirrored

    expected = epoch_of(folder, number % 6)
    try:
        found = epoch_of(mirrored(url), number % 6)
    except (BadInput, OSError) as error:
        if "No space left" in str(error) or "half of what is free" in str(error):
            return "full"
        raise
    return "read" if found == expected else f"epoch {number % 6}: {found} of the bucket, {expected} of the folder"


def command(folder: Path, place: Path, url: str, number: int) -> str:
    """A whole loop in this process, which leaves nothing; or the disk is full."""
    from caches import command as run

    cache, trained = place / "cache", place / "run"
    recipe = folder.parent.parent / "image.yaml"
    words = [
        ("extract", "--teacher", "none", "--data", "digits", "--limit", "64", "--view", "size=16", "--out", str(cache)),
        ("distill", "--shards", str(folder), "--recipe", str(recipe), "--run_dir", str(trained), "--max_steps", "20"),
        ("evaluate", "--run", str(trained), "--task", "accuracy", "--split", "train"),
        ("shards", "verify", str(folder)),
    ]
    try:
        for name, *flags in words:
            devices = () if name in ("evaluate", "shards") else ("--devices", "cpu")
            done = run(name, *flags, *devices)
            if done.status:
                full = any(word in done.err for word in ("o space left", "are free", "free some"))
                return "full" if done.status == 2 and full else f"{name}: {done.status}: {done.out}{done.err}"
    finally:
        for each in (cache, trained):
            shutil.rmtree(each, ignore_errors=True)
    return "run"


def main() -> None:
    what, folder, place, url, journal = sys.argv[1:]
    work: Any = {"reader": read, "commands": command}[what]
    with Path(journal).open("a") as file:
        number = 0
        while True:
            start = time.monotonic()
            said = work(Path(folder), Path(place), url, number)
            number += 1
            seconds = time.monotonic() - start
            file.write(json.dumps({"round": number, "said": said, "seconds": seconds} | holds()) + "\n")
            file.flush()
            time.sleep(REST * seconds)


if __name__ == "__main__":
    main()
