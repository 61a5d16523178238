"""Campaign: one reader fed with many spoilt examples; each kind of fault is kept once, with what makes it again.

A reader may read what it is given, or refuse it by our own errors (or by the system's, which name a file). It may not
raise anything else, hang, take memory, write outside its folder, run anything or ask the network for anything.
"""

import contextlib
import io
import logging
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz import foreign
from fuzz.mutations import Spoiling, drawn, reseal, spoilt
from fuzz.readers import READERS, Reader
from watching import Hung, bounded, peak_bytes, peak_restarts, watching

import shards
from shards.errors import TeacherShardsError

MOST_BYTES = 256 << 20
"""Of memory, for one input."""
_ROOT = Path(shards.__file__).parents[1]
_GUARD_BYTES, _GUARD_S = 2 << 30, 20.0
"""Where an input is stopped: threads reserve their stacks, and other work on the machine makes all of it slow."""


@dataclass
class Campaign:
    """What came of it."""

    name: str
    num_inputs: int = 0
    num_refused: int = 0
    seconds: float = 0.0
    most_bytes: int = 0
    faults: dict[str, Spoiling] = field(default_factory=dict)
    """An input for each kind of fault."""

    def summary(self) -> str:
        rate = self.num_inputs / max(self.seconds, 1e-9)
        took = f"{self.seconds:,.0f} s ({rate:,.0f}/s), {self.most_bytes / 1e6:,.0f} MB at most"
        return (
            f"{self.name}: {self.num_inputs:,} inputs, {self.num_refused:,} refused, {len(self.faults)} faults, {took}"
        )


class Example:
    """A reader's valid example in a folder of its own, of which one file is spoilt at a time."""

    def __init__(self, name: str, folder: Path) -> None:
        self.reader: Reader = READERS[name]
        self.folder = folder / "example"
        foreign.SPOILT = ""
        self.folder.mkdir(parents=True)
        self.reader.write(self.folder)
        every = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        self.files = [path for path in every if any(path.match(f"example/{pattern}") for pattern in self.reader.spoils)]
        self.contents = {path: path.read_bytes() for path in every}
        assert self.files, name

    def spoil(self, spoiling: Spoiling) -> None:
        which, how, steps = spoiling
        path = self.files[which % len(self.files)]
        foreign.SPOILT = path.name
        _put(path, spoilt(path, self.contents[path], how > 0, steps))
        if self.reader.reseals and how < 3:
            viewset = next(each for each in path.parents if each.parent == self.folder)
            reseal(viewset, path)

    def mend(self) -> None:
        for path, content in self.contents.items():
            if not path.is_file() or path.read_bytes() != content:
                _put(path, content)


def _put(path: Path, content: bytes) -> None:
    """A new file, as our commits make them: who maps the old one keeps it, where one that is cut ends a process."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def read_once(example: Example, spoiling: Spoiling, campaign: Campaign) -> None:
    """The example spoilt, read, and mended; what went wrong is in the campaign."""
    example.spoil(spoiling)
    campaign.num_inputs += 1
    peak_restarts()
    fault = ""
    with (
        watching(example.folder) as watched,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            with bounded(_GUARD_S, _GUARD_BYTES):
                example.reader.read(example.folder)
        except TeacherShardsError:
            campaign.num_refused += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            if not isinstance(error, OSError) or error.filename is None:
                fault = "hangs" if isinstance(error, Hung) else _where(error)
    most = peak_bytes()
    campaign.most_bytes = max(campaign.most_bytes, most)
    faults = [fault] if fault else []
    if most > MOST_BYTES and not any("takes" in each for each in campaign.faults):
        faults.append(f"takes {most >> 20} MiB")
    for each in (*faults, *watched.faults):
        campaign.faults.setdefault(each, spoiling)
    example.mend()


def _where(error: BaseException) -> str:
    """The kind of an error and the last places of ours that it came through."""
    every = traceback.extract_tb(error.__traceback__)
    ours = [each for each in every if each.filename.startswith(str(_ROOT)) and "/tests/" not in each.filename]
    places = [f"{Path(each.filename).relative_to(_ROOT)}:{each.lineno}" for each in ours[-2:]]
    return f"{type(error).__name__} at {' < '.join(reversed(places)) or every[-1]}"


def campaign_of(
    name: str, num_inputs: int, folder: Path, seed: int = 0, most_seconds: float = float("inf")
) -> Campaign:
    """`num_inputs` spoilt examples of the reader `name`, fewer where time is up; another `seed` draws others."""
    example, campaign, random = Example(name, folder), Campaign(name), Random(seed)
    example.reader.read(example.folder)  # valid, and libraries are loaded that would run code as they load
    start = time.monotonic()
    logging.disable()  # what libraries log of spoilt texts, half characters too, would go to pytest's workers
    try:
        while campaign.num_inputs < num_inputs and time.monotonic() < start + most_seconds:
            read_once(example, drawn(random), campaign)
    finally:
        logging.disable(logging.NOTSET)
        campaign.seconds = time.monotonic() - start
    return campaign
