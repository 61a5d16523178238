"""Views in tars: a WebDataset sample a view: the codec's members, a .json of facts, a .cls where it is labelled."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from shards import tar
from shards.arrays import LastViews
from shards.command.progress import counted
from shards.documents import Plan, read_commit
from shards.draws import draw_choice
from shards.errors import RESTORE, BadInput, Damaged
from shards.layout import commit_path, tar_path
from shards.storage.base import ViewStorage
from shards.tar import Members
from shards.views.base import MemberCodec, Row, ViewCodec


class Storage(ViewStorage):
    """One tar a (view, shard), `views/v00-00000.tar`."""

    def __init__(
        self, folder: Path, plan: Plan, codec: ViewCodec, num_views: int, checked: Callable[[str], Path]
    ) -> None:
        assert isinstance(codec, MemberCodec)
        self.folder, self.plan, self.codec, self.num_views, self.checked = folder, plan, codec, num_views, checked
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

    def read(self, view: int, samples: Sequence[int], out: Row, epoch: int = 0) -> None:
        """Decode the fields of `samples`; in another `epoch` a view that stores alternatives may show another one."""
        for position, sample in enumerate(samples):
            members = {ending: self.content(view, sample, ending) for ending in self.codec.endings}
            seed = self.codec.draws
            choice = 0 if seed is None else draw_choice(seed, self.plan.keys[sample], epoch)
            self.codec.decode(members, {name: rows[position, ...] for name, rows in out.items()}, choice)

    def labels(self, view: int, samples: Sequence[int]) -> Int64[np.ndarray, " count"]:
        """The .cls members as numbers."""
        return np.array([int(self.content(view, sample, "cls")) for sample in samples], np.int64)

    def facts(self, view: int, sample: int) -> dict[str, Any]:
        """The .json member."""
        facts: dict[str, Any] = json.loads(self.content(view, sample, "json"))
        return facts

    def members(self, view: int, sample: int) -> dict[str, bytes]:
        """The members as they are stored."""
        labels = ["cls"] if self.plan.class_names is not None else []
        return {ending: self.content(view, sample, ending) for ending in (*self.codec.endings, "json", *labels)}

    def content(self, view: int, sample: int, ending: str) -> bytes:
        """The bytes of one member (`jpg`, `png`, `json`, `cls`) of one view."""
        stored = self._tars.get(view, sample // self.plan.shard_size, self._open)
        if ending not in stored.endings:
            raise BadInput(
                f"{self.folder}: its samples have no .{ending} (labels?); its endings are {', '.join(stored.endings)}"
            )
        content = stored.read(sample % self.plan.shard_size, ending)
        if not content:
            what = "was skipped by extract, or its source has none"
            raise BadInput(f"{self.folder}: {self.plan.keys[sample]} has no .{ending}: it {what}")
        return content

    def _open(self, view: int, shard: int) -> tar.StoredTar:
        if not 0 <= view < self.num_views:
            has = counted(self.num_views, "view")
            raise BadInput(f"{self.folder}: has {has}, asked for view {view}; extract more with --views")
        path = self.checked(tar_path(view, shard))
        commit = self.checked(commit_path(view, shard))
        record = read_commit(self.folder, view, shard)
        if record is None or record.members is None:
            raise Damaged(f"{commit}: is no commit record of a shard of views; {RESTORE}")
        members = record.members
        if any(len(places) != len(self.plan.rows(shard)) for places in members.values()):
            raise Damaged(f"{commit}: is of another plan; {RESTORE}")
        return tar.StoredTar(path, members)
