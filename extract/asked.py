"""Asked: which targets a command line asks of a teacher, how each is encoded, and how many of its tokens are kept."""

from typing import TYPE_CHECKING, NamedTuple

from extract.config import ExtractConfig
from extract.targets import default_codec, default_target, has_tokens
from shards.codecs import LOGITS, PROBABILITIES, make_codec, split_codecs
from shards.errors import BadInput

if TYPE_CHECKING:
    from extract.teachers.base import Teacher
    from shards.codecs.base import Codec


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


def _codec_specs(config: ExtractConfig, targets: list[str], teacher: "Teacher") -> list[str]:
    """A codec for each target: --codec's only one for all, one each, or each target's default."""
    if config.codec is None:
        return [default_codec(target, teacher.outputs[target]) for target in targets]
    specs = split_codecs(config.codec)
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
