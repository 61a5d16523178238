"""Views in tars: a WebDataset sample a view: the codec's members, a .json of facts, a .cls where it is labelled."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from shards import tar
from shards.bucket_rows import ANY_VIEW, read_rows
from shards.checked import CheckedFiles
from shards.command.progress import counted
from shards.documents import Plan
from shards.draws import draw_choice
from shards.errors import RESTORE, BadInput, Damaged, one_line
from shards.last_views import LastViews
from shards.layout import commit_path, tar_path
from shards.ranges import Range
from shards.rows import Checksums, checksums_of, row_checksums
from shards.storage.base import Fetched, ViewStorage
from shards.tar import Members
from shards.views.base import MemberCodec, Row, ViewCodec


class Storage(ViewStorage):
    """One tar a (view, shard), `views/v00-00000.tar`."""

    def __init__(self, folder: Path, plan: Plan, codec: ViewCodec, num_views: int, checked: CheckedFiles) -> None:
        assert isinstance(codec, MemberCodec)
        self.folder, self.plan, self.codec, self.num_views, self.checked = folder, plan, codec, num_views, checked
        self.of_any_view = False
        """Whether these are the images that all views are rendered from: a row comes again with whichever view."""
        self._tars: LastViews[int, tar.StoredTar] = LastViews()

    def metadata(self) -> dict[str, bytes]:
        """A tar describes itself."""
        return {}

    def check(self) -> None:
        """A tar is checked when it is opened."""

    def store(self, row: Row, out: Row, facts: dict[str, Any]) -> dict[str, bytes]:
        """The view's members; decoded again, as a JPEG is not the pixels that it was made of."""
        members = self.codec.encode(row)
        if "label" in facts:
            members["cls"] = str(facts["label"]).encode()
        members["json"] = json.dumps(facts, sort_keys=True).encode()
        self.codec.decode(members, out)
        return members

    def pack(
        self, view: int, shard: int, fields: Row, contents: Sequence[dict[str, bytes] | None]
    ) -> tuple[dict[str, bytes | bytearray], Members]:
        """The tar, and each row's members in it; NO_MEMBER at the skipped rows, so that a row number finds its own."""
        keys = [self.plan.keys[row] for row in self.plan.rows(shard)]
        packed, places = tar.pack(
            (key, content) for key, content in zip(keys, contents, strict=True) if content is not None
        )
        following = {ending: iter(of_ending) for ending, of_ending in places.items()}
        members = {
            ending: [tar.NO_MEMBER if content is None else next(rest) for content in contents]
            for ending, rest in following.items()
        }
        return {tar_path(view, shard): packed}, members

    def checksums(
        self, view: int, shard: int, files: Mapping[str, bytes | bytearray], members: Members | None
    ) -> Checksums:
        """Of each row's member, by ending."""
        content = memoryview(files[tar_path(view, shard)])
        return {
            ending: checksums_of(content[offset : offset + size] for offset, size in places)
            for ending, places in (members or {}).items()
        }

    def fetch(
        self, view: int, samples: Sequence[int], labels: bool = False, requests: Executor | None = None
    ) -> Fetched | None:
        """The members that are in memory at once, all others together; each is checked."""
        endings = (*self.codec.endings, *(["cls"] if labels else []))
        return self._fetch(view, samples, endings, requests)

    def fetch_all(self, view: int, samples: Sequence[int], requests: Executor | None = None) -> Fetched | None:
        """All members, read likewise."""
        return self._fetch(view, samples, self._all_endings, requests)

    def _fetch(
        self, view: int, samples: Sequence[int], endings: Sequence[str], requests: Executor | None = None
    ) -> Fetched | None:
        size = self.plan.shard_size
        absent = sorted({sample // size for sample in samples} - self._tars.keys(view))
        open_one = partial(self._tars.get, view, make=self._open)
        if requests is not None and len(absent) > 1:
            list(requests.map(open_one, absent))
        buffers: dict[tuple[int, str], bytearray] = {}
        cold: list[Range] = []
        there: list[tuple[int, str, Range]] = []
        for sample in samples:
            stored = open_one(sample // size)
            if not stored.checked_by_row:
                return None  # hashed whole a moment ago, so it is in memory
            for ending in endings:
                offset, num_bytes = self._place(stored, sample, ending)
                buffer = buffers[sample, ending] = bytearray(num_bytes)
                wanted = Range(tar_path(view, sample // size), offset, memoryview(buffer))
                if not stored.is_here:
                    there.append((sample, ending, wanted))
                elif not self.checked.read.read_now(wanted):
                    cold.append(wanted)
        self.checked.read(cold, requests)
        self._read_there(view, there)
        for (sample, ending), buffer in buffers.items():
            open_one(sample // size).check(sample % size, ending, buffer)
        return {place: bytes(buffer) for place, buffer in buffers.items()}

    def _read_there(self, view: int, wanted: Sequence[tuple[int, str, Range]]) -> None:
        """Members of tars in a bucket, each of which fits its checksum."""
        size, tars = self.plan.shard_size, partial(self._tars.get, view, make=self._open)

        def fits(number: int, content: memoryview) -> bool:
            sample, ending, _ = wanted[number]
            return tars(sample // size).fits(sample % size, ending, content)

        if wanted:
            samples, ranges = [sample for sample, _, _ in wanted], [each for _, _, each in wanted]
            comes_again_as = ANY_VIEW if self.of_any_view else view
            read_rows(self.folder, comes_again_as, samples, ranges, fits, self.checked.next_uses)

    def read(self, view: int, samples: Sequence[int], out: Row, epoch: int = 0, fetched: Fetched | None = None) -> None:
        """Decode the fields of `samples`; in another `epoch` a view that stores alternatives may show another one."""
        if fetched is None and self.checked.mirrored:
            fetched = self.fetch(view, samples)
        for position, sample in enumerate(samples):
            members = {ending: self.content(view, sample, ending, fetched) for ending in self.codec.endings}
            seed = self.codec.draws
            choice = 0 if seed is None else draw_choice(seed, self.plan.keys[sample], epoch)
            self.codec.decode(members, {name: rows[position, ...] for name, rows in out.items()}, choice)

    def labels(self, view: int, samples: Sequence[int], fetched: Fetched | None = None) -> Int64[np.ndarray, " count"]:
        """The .cls members as numbers."""
        try:
            return np.array([int(self.content(view, sample, "cls", fetched)) for sample in samples], np.int64)
        except (ValueError, OverflowError) as error:
            raise Damaged(f"{self.folder}: a stored label is no whole number ({one_line(error):.80})") from None

    def facts(self, view: int, sample: int, fetched: Fetched | None = None) -> dict[str, Any]:
        """The .json member."""
        try:
            facts = json.loads(self.content(view, sample, "json", fetched))
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{self.folder}: the .json of a stored view is not JSON ({one_line(error)})") from None
        if not isinstance(facts, dict):
            raise Damaged(f"{self.folder}: the .json of a stored view is no object")
        return facts

    @property
    def _all_endings(self) -> tuple[str, ...]:
        return (*self.codec.endings, "json", *(["cls"] if self.plan.class_names is not None else []))

    def members(self, view: int, samples: Sequence[int], requests: Executor | None = None) -> list[dict[str, bytes]]:
        """The members as they are stored."""
        fetched = self.fetch_all(view, samples, requests)
        return [
            {ending: self.content(view, sample, ending, fetched) for ending in self._all_endings} for sample in samples
        ]

    def content(self, view: int, sample: int, ending: str, fetched: Fetched | None = None) -> bytes:
        """The bytes of one member (`jpg`, `png`, `json`, `cls`) of one view."""
        if fetched is not None:
            return fetched[sample, ending]
        stored = self._tars.get(view, sample // self.plan.shard_size, self._open)
        self._place(stored, sample, ending)
        if not stored.is_here and (fetched := self._fetch(view, [sample], [ending])) is not None:
            return fetched[sample, ending]
        return stored.read(sample % self.plan.shard_size, ending)

    def _place(self, stored: tar.StoredTar, sample: int, ending: str) -> tuple[int, int]:
        """Where a member lies; BadInput where the sample has none."""
        if ending not in stored.endings:
            raise BadInput(
                f"{self.folder}: its samples have no .{ending} (labels?); its endings are {', '.join(stored.endings)}"
            )
        offset, size = stored.place(sample % self.plan.shard_size, ending)
        if not size:
            what = "was skipped by extract, or its source has none"
            raise BadInput(f"{self.folder}: {self.plan.keys[sample]} has no .{ending}: it {what}")
        return offset, size

    def _open(self, view: int, shard: int) -> tar.StoredTar:
        if not 0 <= view < self.num_views:
            has = counted(self.num_views, "view")
            raise BadInput(f"{self.folder}: has {has}, asked for view {view}; extract more with --views")
        commit = self.folder / commit_path(view, shard)
        record = self.checked.commit(view, shard)
        if record.members is None:
            raise Damaged(f"{commit}: is no commit record of a shard of views; {RESTORE}")
        members = record.members
        if any(len(places) != len(self.plan.rows(shard)) for places in members.values()):
            raise Damaged(f"{commit}: is of another plan; {RESTORE}")
        num_rows = len(self.plan.rows(shard))
        sums = {ending: row_checksums(commit, record.checksums, ending, num_rows) for ending in members}
        if by_row := all(each is not None for each in sums.values()):
            if self.checked.by_row(relative := tar_path(view, shard)):
                return tar.StoredTar(self.folder / relative, members, sums, self.checked.size_of(relative))
            path = self.checked.sized(relative)
        else:
            path = self.checked(tar_path(view, shard))
        return tar.StoredTar(path, members, sums if by_row else None)
