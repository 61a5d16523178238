"""Documents: the JSON files of caches, a typed class each, and the functions that read them.

A document that is read here has fields of types and sizes that its kind can have, else it is refused in one line.
Fields that these classes do not name are left out when a document is read.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from msgspec import Meta, Struct, structs

from shards.errors import Damaged, Incomplete
from shards.kept import Kept
from shards.keys import KEYS, check_listed, read_keys
from shards.layout import (
    PLAN,
    TARGETSET_MANIFEST,
    VIEWSET_MANIFEST,
    commit_path,
    inside,
    shard_name,
    targetset_is_whole,
    viewset_is_whole,
)
from shards.records import MAX_COUNT, Count, FileRecord, Files, Number, check_file
from shards.sealed import FORMAT_VERSION, fields_of, unsealed
from shards.views import check_identity

MAX_ROW_NUMBERS = 1 << 28

Errors = dict[str, Annotated[int, Meta(ge=-MAX_COUNT, le=MAX_COUNT)] | float]
"""What a codec loses, by the names that `Codec.error` gives."""


class Document(Struct, frozen=True):
    """A document that is sealed with its own SHA-256; an optional field that is None is not written."""

    kind: ClassVar[str]
    parts: ClassVar[dict[str, type[Struct]]] = {}
    """What the free-form fields must hold at least, by their names."""

    def document(self) -> dict[str, Any]:
        """The fields as they are sealed on the disk."""
        values = ((field, getattr(self, field.name)) for field in structs.fields(self))
        written = {field.name: value for field, value in values if field.required or value is not None}
        return {"kind": self.kind, "format": FORMAT_VERSION, **written}


class ViewSetIdentity(Struct):
    """What the identity of a view set of any modality holds; its modality knows the rest."""

    source: str
    split: str
    keys: str
    num_samples: Count


class TargetSetIdentity(Struct):
    """What the identity of a target set holds."""

    viewset: str
    teacher: dict[str, Any]
    codec: dict[str, Any]
    precision: str


class Request(Struct):
    """What a plan keeps of the flags that began it."""

    data: str
    split: str
    data_dir: str | None = None
    limit: int | None = None


class Plan(Document, frozen=True):
    """plan.json: which sample lies in which shard, the keys in order, cut into shards of `shard_size` rows."""

    kind = "plan"
    parts = {"identity": ViewSetIdentity, "request": Request}

    keys: Sequence[str]
    shard_size: Count
    identity: dict[str, Any]
    class_names: list[str] | None
    request: dict[str, Any]
    """--data, --data_dir and --limit as they were given: where the source was, not part of the identity."""
    keys_file: FileRecord | None = None
    """Of keys.npy, from which the keys are computed where the document lists none."""

    def __post_init__(self) -> None:
        check_listed(self.keys, self.keys_file is not None)

    def document(self) -> dict[str, Any]:
        """The fields as they are sealed on the disk; computed keys are not listed."""
        return super().document() | ({} if self.keys_file is None else {"keys": []})

    @classmethod
    def read(cls, viewset: Path) -> "Plan":
        """The plan of the view set in the folder `viewset`; its keys are shared by all who read it, and never changed.

        Parsed once a process: of a million samples it takes a second, and a command asks for it several times.
        """
        path = inside(viewset, PLAN)
        return _PLANS.read(path, lambda: _with_keys(viewset, read_document(path, cls)))

    @property
    def num_shards(self) -> int:
        """Shards in each view."""
        return -(-len(self.keys) // self.shard_size)

    def rows(self, shard: int) -> range:
        """The samples of one shard, as indices into `keys`."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, len(self.keys)))


_PLANS = Kept[Plan](lambda plan: len(plan.keys), few=4, most=6_000_000)
"""All together have so many keys, which take 0.5 GB."""


def _with_keys(viewset: Path, plan: Plan) -> Plan:
    """`plan` with the keys of its file, checked; itself where it lists them."""
    if plan.keys_file is None:
        return plan
    return structs.replace(plan, keys=read_keys(check_file(viewset, KEYS, plan.keys_file)))


class Commit(Document, frozen=True):
    """commits/v00-00000.json: one shard of a view set (members, skipped, digests) or target set (codec_error)."""

    kind = "commit"

    view: Number
    shard: Number
    files: Files
    members: dict[str, list[tuple[Number, Number]]] | None = None
    """For each ending the (offset, size) of each row's member, as `shards.tar` gives them."""
    skipped: list[str] | None = None
    """Keys of the samples without a view."""
    digests: list[str] | None = None
    """What each row's sample was; None where the view set records none."""
    codec_error: Errors | None = None
    checksums: dict[str, str] | None = None
    """Each row's crc32c by array, or by ending of a tar's members (`shards/rows.py`); None in records of before."""
    calibration: str | None = None
    """The SHA-256 of the statistics that the rows are encoded with; None for a codec without any."""
    device: str | None = None
    """The type of device that computed the rows; None of views, and in records of before."""


class ViewSetManifest(Document, frozen=True):
    """viewset.json: the commit of a whole view set, written last."""

    kind = "viewset"
    parts = {"identity": ViewSetIdentity}

    identity: dict[str, Any]
    num_samples: Count
    num_views: Count
    num_shards: Count
    """In each view."""
    shard_size: Count
    request: dict[str, Any]
    class_names: list[str] | None
    skipped: list[str]
    files: Files


class TargetSetManifest(Document, frozen=True):
    """targetset.json: the commit of a whole target set, written last."""

    kind = "targetset"
    parts = {"identity": TargetSetIdentity}

    identity: dict[str, Any]
    teacher: str
    target: str
    codec: str
    codec_error: Errors
    row_shape: Annotated[list[Count], Meta(min_length=1)]
    arrays: Annotated[dict[str, tuple[str, list[Count]]], Meta(min_length=1)]
    """Each array's data type and the shape of one row."""
    num_samples: Count
    num_views: Count
    shard_size: Count
    files: Files
    keep_tokens: Count | None = None
    """Tokens that are stored of each row; None for all of them."""
    teacher_settings: dict[str, Any] | None = None
    """From which distill builds a student of the teacher's kind."""
    layouts: dict[str, tuple[Count, Count]] | None = None
    """(rows of an object, rows of a chunk) of the arrays that are laid out otherwise than the first rule says."""
    class_names: list[str] | None = None
    """The teacher's own, where the view set has others."""
    devices: list[str] | None = None
    """The types of device that the commit records name."""
    unseen: Count | None = None
    """Samples, which trained no codebook, that `codec_error` is of; None where it is of the first ones."""

    def __post_init__(self) -> None:
        if math.prod(self.row_shape) > MAX_ROW_NUMBERS:
            raise ValueError(f"row_shape cannot be {repr(self.row_shape)[:60]}")
        if self.class_names is not None and [len(self.class_names)] != self.row_shape:
            names, shape = len(self.class_names), repr(self.row_shape)[:60]
            raise ValueError(f"{names} class_names cannot name a row of shape {shape}")


SealedKind = TypeVar("SealedKind", bound=Document)


def read_commit(folder: Path, view: int, shard: int, content: bytes | None = None) -> Commit | None:
    """The commit record of one shard, that of `content` where it was read before; None when it was not committed."""
    path = inside(folder, commit_path(view, shard))
    if content is None and not path.exists():
        return None
    record = read_document(path, Commit, content)
    if (record.view, record.shard) != (view, shard):
        raise Damaged(f"{path}: is the commit of {shard_name(record.view, record.shard)}; shards were swapped")
    return record


def read_viewset_manifest(folder: Path) -> ViewSetManifest:
    """The manifest of a whole view set; Incomplete while it is half written."""
    if not viewset_is_whole(folder) and (folder / PLAN).exists():
        raise Incomplete(f"{folder}: half written (no {VIEWSET_MANIFEST}); run the same extract command to finish it")
    return read_document(inside(folder, VIEWSET_MANIFEST), ViewSetManifest)


def read_targetset_manifest(folder: Path) -> TargetSetManifest:
    """The manifest of a whole target set; Incomplete while it is half written."""
    if not targetset_is_whole(folder):
        raise Incomplete(f"{folder}: half written (no {TARGETSET_MANIFEST}); run the same extract command to finish it")
    return read_document(inside(folder, TARGETSET_MANIFEST), TargetSetManifest)


def read_document(path: Path, kind: type[SealedKind], content: bytes | None = None) -> SealedKind:
    """The sealed document at `path`, or of its `content`, every field of a type and size that its kind can have.

    Raises Damaged when it is missing, too large, no JSON, of another kind, altered, or makes no sense, and NewerVersion
    when a later version of teacher-shards wrote it.
    """
    document = unsealed(path, kind.kind, content)
    fields = fields_of(document, kind, str(path))
    for name, part in kind.parts.items():
        fields_of(document[name], part, str(path), f"{name}.")
    if ViewSetIdentity in kind.parts.values():
        check_identity(str(path), document["identity"])
    return fields
