"""Missing: `--on_missing 'extract ...'`: an extraction beside the training, in a process of its own.

It is `python -m extract` itself: identity, bytes, lock and resumption are those of the command. It promises what its
sets will be (`extract/promises.py`), and the training reads each shard when its commit record is there.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from distill.validation import VALIDATION_SPLITS
from extract.half_written import half_written_identity
from extract.named import named_for, unnamed
from extract.named_teachers import NamedTeacher, named_teacher, unnamed_teacher
from shards.cache import ListedViewSet, list_viewsets, only
from shards.command.run import starting_children
from shards.documents import read_targetset_manifest, read_viewset_manifest
from shards.errors import BadInput
from shards.listing import SAVED_FLAGS, saved_flags
from shards.lock import writing
from shards.promised import FOLDER, READY, Promises, read_promises
from shards.splits import canonical_split
from shards.stores import is_url

_INTERVAL_S = 0.1
_LOCK_S = 1.0
"""A killed training's extraction ends within this time, and has the cache's lock until then."""


class Extraction:
    """The extraction that a training starts; none where there is nothing to start."""

    def __init__(self, arguments: list[str] | None, cache: str) -> None:
        self.cache, self._process, self._said = Path(cache), None, ""
        if arguments is None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="teacher-shards-")
        with starting_children():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "extract", *arguments],
                env={**os.environ, FOLDER: self._folder.name},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # an interrupt of the terminal is for the training, which ends this
            )
        assert self._process.stdout and self._process.stderr
        self._relays = [
            threading.Thread(target=self._tell, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._hold_back, args=(self._process.stderr,), daemon=True),
        ]
        for relay in self._relays:
            relay.start()

    def _tell(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, end="", flush=True)

    def _hold_back(self, lines: Iterable[str]) -> None:
        """Each line but the last, which may be why the extraction ended."""
        for line in lines:
            print(self._said, end="", file=sys.stderr, flush=True)
            self._said = line

    @cached_property
    def promises(self) -> Promises:
        """What its sets will be; nothing where they are whole already, or had to be before they are read."""
        while not self.ended():
            if Path(self._folder.name, READY).exists():
                promises = read_promises(Path(self._folder.name))
                splits = {canonical_split(str(each.identity["split"])) for each in promises.viewsets.values()}
                if not splits & set(VALIDATION_SPLITS):  # validation takes whole sets alone
                    return promises
            time.sleep(_INTERVAL_S)
        return Promises()

    def ended(self) -> bool:
        """Whether it made all; BadInput, its own line, where it ended otherwise by the user's mistake."""
        if self._process is None:
            return True
        status = self._process.poll()
        if status is None:
            return False
        for relay in self._relays:
            relay.join()
        if status == 2:
            raise BadInput(self._said)
        if status:
            raise RuntimeError(f"the extraction ended with status {status}: {self._said}; the same command resumes")
        print(self._said, end="", file=sys.stderr, flush=True)
        self._said = ""
        return True

    def finish(self) -> None:
        """All is made, and what was promised is as the manifests say now."""
        while not self.ended():
            time.sleep(_INTERVAL_S)
        for name, promised in self.promises.viewsets.items():
            promised.files.update(read_viewset_manifest(self.cache / name).files)
            for each in ListedViewSet(self.cache / name, promises=self.promises).targetsets:
                if each.promised is not None:
                    each.promised.files.update(read_targetset_manifest(each.folder).files)

    def stop(self) -> None:
        """It works no more; what it committed stays."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for relay in self._relays:
            relay.join()
        self._folder.cleanup()


@contextmanager
def extracting(on_missing: str | None, shards: str) -> Iterator[Extraction]:
    """The extraction that `--on_missing` names works while the block runs, and is whole after it.

    An error in the block stops it. The processes of other ranks start none.
    """
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # without Lightning, which takes seconds to be imported
    extraction = Extraction(_arguments(on_missing, shards) if on_missing is not None and is_first else None, shards)
    try:
        yield extraction
        extraction.finish()
    finally:
        extraction.stop()


def _arguments(on_missing: str, shards: str) -> list[str] | None:
    """Extract's flags; None where there is nothing to complete. BadInput for what is no command of extract."""
    flag = f"--on_missing {shlex.quote(on_missing)}"
    try:
        name, *words = shlex.split(on_missing)
    except ValueError:
        name, words = "", []
    if name != "extract":
        raise BadInput(f"{flag}: expected extract and its flags; give --on_missing 'extract --data ... --teacher ...'")
    if any(word.partition("=")[0] == "--out" for word in words):
        raise BadInput(f"{flag}: --shards says where it goes; leave --out out")
    if is_url(shards) or ("," in shards and not Path(shards).exists()):
        raise BadInput(f"--shards {shards}: --on_missing expects one folder; extract first, then distil without it")
    if not words:
        begun: dict[Path, ListedViewSet] = {}
        for viewset in list_viewsets(Path(shards)):
            targetsets = [each.folder for each in viewset.targetsets if not each.whole]
            begun |= dict.fromkeys(targetsets or ([] if viewset.whole else [viewset.folder]), viewset)
        if not begun:
            return None
        folder = only(flag, "half-written sets", [*begun], "give the flags of one")
        _check_named(flag, folder, begun[folder])
        words = ["--config", str(folder / SAVED_FLAGS)]
    if Path(shards).is_dir():
        _await_lock(Path(shards))
    return [*words, "--out", shards]


def _check_named(flag: str, folder: Path, viewset: ListedViewSet) -> None:
    """Raises BadInput where only the cache names the data, or the teacher, that its saved flags would open."""
    saved, request = saved_flags(folder), viewset.request
    same = all(saved.get(name) in (None, request.get(name)) for name in ("data", "data_dir"))
    if not same or named_for(viewset.identity, request) is None:
        data = (saved.get("data") or request["data"], saved.get("data_dir") or request.get("data_dir"))
        raise unnamed(*data, f"give {flag} its flags yourself if you trust them, as --on_missing 'extract --data ...'")
    if folder != viewset.folder:
        identity, teacher = half_written_identity(folder), NamedTeacher.of(saved)
        if named_teacher(identity, teacher) is None:
            raise unnamed_teacher(teacher, f"give {flag} its flags, as --on_missing 'extract --teacher ...'")


def _await_lock(cache: Path) -> None:
    """A training that was killed a moment ago has no extraction any more; another's lock is extract's to refuse."""
    deadline = time.monotonic() + _LOCK_S
    while time.monotonic() < deadline:
        with suppress(BadInput), writing(cache, shared=True):
            return
        time.sleep(_INTERVAL_S)
