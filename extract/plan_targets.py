"""Plan, second half: which target sets a command line means, each with its own codec and identity."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.config import ExtractConfig
from extract.plan import ViewSetJob
from extract.targets import default_target
from shards.codecs import make_codec
from shards.errors import BadInput, Damaged, IdentityMismatch
from shards.identity import canonical_json, differences, identity_hash
from shards.layout import (
    TARGETSET_MANIFEST,
    inside,
    read_commit,
    read_targetset_manifest,
    targetset_folders,
    targetset_name,
)

if TYPE_CHECKING:
    from extract.teachers.base import Teacher
    from shards.codecs.base import Codec

DEFAULT_CODEC = "float16"


@dataclass(frozen=True)
class TargetSetJob:
    """A target set to write, finish or grow."""

    folder: Path
    identity: dict[str, Any]
    target: str
    codec: "Codec"
    row_shape: tuple[int, ...]
    num_views: int

    def lacks(self, view: int, shard: int) -> bool:
        """Whether this target set should have the rows of one shard and does not."""
        return view < self.num_views and read_commit(self.folder, view, shard) is None


def plan_targets(config: ExtractConfig, views: ViewSetJob, teacher: "Teacher") -> list[TargetSetJob]:
    """The target sets that `config` asks for, one for each --target."""
    targets = (config.target or default_target(teacher.outputs)).split(",")
    specs = (config.codec or DEFAULT_CODEC).split(",")
    if len(specs) not in (1, len(targets)):
        raise BadInput(f"--codec {config.codec}: give one codec, or one for each of --target {','.join(targets)}")
    jobs: list[TargetSetJob] = []
    for target, spec in zip(targets, specs * (len(targets) // len(specs)), strict=True):
        if target not in teacher.outputs:
            raise BadInput(f"--target {target}: {teacher.name} gives {', '.join(sorted(teacher.outputs))}")
        codec = make_codec(spec, teacher.outputs[target])
        identity = target_identity(views, teacher, target, codec, config.precision)
        name = targetset_name(teacher.name, target, codec.name, identity)
        folder = inside(views.folder, f"targets/{name}")
        _refuse_half_written(views.folder, folder, identity)
        whole = read_targetset_manifest(folder)["num_views"] if (folder / TARGETSET_MANIFEST).exists() else 0
        if any(job.folder == folder for job in jobs):
            raise BadInput(f"--target {config.target}: names {target} as {codec.name} twice; once is enough")
        num_views = max(views.asked_views, whole)
        jobs.append(TargetSetJob(folder, identity, target, codec, teacher.outputs[target], num_views))
    return jobs


def target_identity(
    views: ViewSetJob, teacher: "Teacher", target: str, codec: "Codec", precision: str
) -> dict[str, Any]:
    """Everything that a stored row's meaning depends on."""
    identity = {
        "format": 1,
        "viewset": identity_hash(views.plan.identity),
        "teacher": {
            "architecture": teacher.architecture,
            "weights_sha256": teacher.weights_sha256,
            "preprocessing": asdict(teacher.preprocessing),
        },
        "target": target,
        "codec": codec.describe(),
        "precision": precision,
    }
    plain: dict[str, Any] = json.loads(canonical_json(identity))  # lists for tuples, as it will be read back
    return plain


def _refuse_half_written(viewset: Path, asked: Path, identity: dict[str, Any]) -> None:
    """A half-written target set of the same teacher, target and codec is finished or removed before another begins."""
    for folder in targetset_folders(viewset):
        same_name = folder.name.rpartition("-")[0] == asked.name.rpartition("-")[0]
        if not same_name or folder == asked or (folder / TARGETSET_MANIFEST).exists():
            continue
        remedy = f"finish it with its own flags, or python -m shards remove {folder}"
        try:
            held = json.loads((folder / "zarr.json").read_bytes())["attributes"]["identity"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{folder}: is half written and its zarr.json cannot be read ({error}); {remedy}") from None
        found = "; ".join(differences(held, identity))
        raise IdentityMismatch(f"{folder} is half written and is another target set: {found}; {remedy}")
