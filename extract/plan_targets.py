"""Plan, second half: which target sets a command line means, each with its own codec and identity."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.asked import choose_targets
from extract.config import ExtractConfig
from extract.half_written import refuse_half_written
from extract.plan_views import ViewSetJob
from shards.documents import read_commit, read_targetset_manifest
from shards.errors import BadInput
from shards.identity import canonical_json, identity_hash
from shards.layout import inside, targetset_is_whole, targetset_name

if TYPE_CHECKING:
    from extract.teachers.base import Teacher
    from shards.codecs.base import Codec


@dataclass(frozen=True)
class TargetSetJob:
    """A target set to write, finish or grow."""

    folder: Path
    identity: dict[str, Any]
    target: str
    codec: "Codec"
    row_shape: tuple[int, ...]
    num_views: int
    keep_tokens: int | None = None
    """Tokens stored of each row (tokens, dim); None for all, and for a vector."""
    extra_tokens: int = 0
    """Tokens that are no patches (CLS, registers): they come first and are always kept."""

    def lacks(self, view: int, shard: int) -> bool:
        """Whether this target set should have the rows of one shard and does not."""
        return view < self.num_views and read_commit(self.folder, view, shard) is None


@dataclass(frozen=True)
class Part:
    """One teacher's part of an extraction: its target sets, and the views as it is fed with them."""

    views: ViewSetJob
    teacher: "Teacher | None" = None
    """None where the views alone are asked for."""
    targets: Sequence[TargetSetJob] = ()

    def lacking(self, view: int, shard: int) -> "Part":
        """The part with those of its target sets that lack the rows of one shard."""
        return replace(self, targets=[job for job in self.targets if job.lacks(view, shard)])

    def reads_as(self, other: "Part") -> bool:
        """Whether the views of both have the same fields and numbers."""
        return self.views.codec == other.views.codec


def plan_targets(config: ExtractConfig, views: ViewSetJob, teacher: "Teacher") -> list[TargetSetJob]:
    """The target sets that `config` asks for, one for each --target."""
    num_masked = views.maker.codec.num_masked
    if config.keep_tokens and 0 < num_masked < config.keep_tokens:
        hidden = f"at most {num_masked} tokens of a view are masked, and these are kept"
        raise BadInput(
            f"--keep_tokens {config.keep_tokens}: {hidden}; give 1 to {num_masked}, or leave it out to store all"
        )
    jobs: list[TargetSetJob] = []
    for target, keep, codec in choose_targets(config, teacher):
        identity = target_identity(views, teacher, target, codec, config.precision)
        name = targetset_name(teacher.name, target, codec.name, identity, keep)
        folder = inside(views.folder, f"targets/{name}")
        refuse_half_written(views.folder, folder, identity)
        whole = read_targetset_manifest(folder).num_views if targetset_is_whole(folder) else 0
        num_views, extra = max(views.asked_views, whole), teacher.extra_tokens.get(target, 0)
        row_shape = teacher.outputs[target]
        jobs.append(TargetSetJob(folder, identity, target, codec, row_shape, num_views, keep, extra))
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
            "preprocessing": teacher.inputs.describe(),
        },
        "target": target,
        "codec": codec.describe(),
        "precision": precision,
    }
    plain: dict[str, Any] = json.loads(canonical_json(identity))  # lists for tuples, as it will be read back
    return plain
