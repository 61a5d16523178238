"""Plan, second half: which target sets a command line means, each with its own codec and identity."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from extract.config import ExtractConfig
from extract.plan_views import ViewSetJob
from extract.targets import default_codec, default_target, has_tokens
from shards.codecs import LOGITS, PROBABILITIES, make_codec
from shards.documents import read_commit, read_targetset_manifest
from shards.errors import BadInput, Damaged, IdentityMismatch
from shards.identity import canonical_json, differences, identity_hash
from shards.layout import inside, targetset_folders, targetset_is_whole, targetset_name

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


class ChosenTarget(NamedTuple):
    """A target of the teacher, the tokens to keep of it (None: all), and its codec."""

    name: str
    keep_tokens: int | None
    codec: "Codec"


def choose_targets(config: ExtractConfig, teacher: "Teacher") -> list[ChosenTarget]:
    """What `config` asks of the teacher; BadInput for what it does not give, before a corpus is tokenised."""
    targets = (config.target or default_target(teacher.outputs)).split(",")
    for target in targets:
        if target not in teacher.outputs:
            raise BadInput(f"--target {target}: {teacher.name} gives {', '.join(sorted(teacher.outputs))}")
    keep_tokens = _keep_tokens(config.keep_tokens, targets, teacher)
    chosen: list[ChosenTarget] = []
    for target, spec in zip(targets, _codec_specs(config, targets, teacher), strict=True):
        if spec.partition(":")[0] in PROBABILITIES and target not in LOGITS:
            raise BadInput(f"--codec {spec}: is for {' or '.join(LOGITS)}, found --target {target}; give another codec")
        codec = make_codec(spec, teacher.outputs[target], keep_tokens.get(target))
        if (target, codec.name) in [(each.name, each.codec.name) for each in chosen]:
            raise BadInput(f"--target {config.target}: names {target} as {codec.name} twice; once is enough")
        chosen.append(ChosenTarget(target, keep_tokens.get(target), codec))
    return chosen


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
        _refuse_half_written(views.folder, folder, identity)
        whole = read_targetset_manifest(folder).num_views if targetset_is_whole(folder) else 0
        num_views, extra = max(views.asked_views, whole), teacher.extra_tokens.get(target, 0)
        row_shape = teacher.outputs[target]
        jobs.append(TargetSetJob(folder, identity, target, codec, row_shape, num_views, keep, extra))
    return jobs


def _codec_specs(config: ExtractConfig, targets: list[str], teacher: "Teacher") -> list[str]:
    """A codec for each target: --codec's only one for all, one each, or each target's default."""
    if config.codec is None:
        return [default_codec(target, teacher.outputs[target]) for target in targets]
    specs = config.codec.split(",")
    if len(specs) not in (1, len(targets)):
        raise BadInput(f"--codec {config.codec}: give one codec, or one for each of --target {','.join(targets)}")
    return specs * (len(targets) // len(specs))


def _keep_tokens(keep: int | None, targets: list[str], teacher: "Teacher") -> dict[str, int]:
    """How many tokens to keep of each target that has some; BadInput where that cannot be."""
    if keep is None:
        return {}
    with_tokens = [target for target in targets if has_tokens(teacher.outputs[target])]
    if not with_tokens:
        dense = [target for target, row_shape in teacher.outputs.items() if has_tokens(row_shape)]
        other = f"its targets with tokens are {', '.join(dense)}" if dense else f"{teacher.name} gives none with tokens"
        raise BadInput(f"--keep_tokens {keep}: --target {','.join(targets)} has no tokens; {other}: else drop the flag")
    for target in with_tokens:
        num_tokens, num_extra = teacher.outputs[target][0], teacher.extra_tokens.get(target, 0)
        if not num_extra <= keep <= num_tokens:
            always = f", of which the first {num_extra} (CLS, registers) are always kept" if num_extra else ""
            raise BadInput(
                f"--keep_tokens {keep}: {target} of {teacher.name} has {num_tokens} tokens{always}; "
                f"give {max(1, num_extra)} to {num_tokens}"
            )
    return dict.fromkeys(with_tokens, keep)


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


def _refuse_half_written(viewset: Path, asked: Path, identity: dict[str, Any]) -> None:
    """A half-written target set of the same teacher, target and codec is finished or removed before another begins."""
    for folder in targetset_folders(viewset):
        same_name = folder.name.rpartition("-")[0] == asked.name.rpartition("-")[0]
        if not same_name or folder == asked or targetset_is_whole(folder):
            continue
        remedy = f"finish it with its own flags, or python -m shards remove {folder}"
        try:
            held = json.loads((folder / "zarr.json").read_bytes())["attributes"]["identity"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{folder}: is half written and its zarr.json cannot be read ({error}); {remedy}") from None
        found = "; ".join(differences(held, identity))
        raise IdentityMismatch(f"{folder} is half written and is another target set: {found}; {remedy}")
