"""Plan: a command line with nothing left open: its view set, its teachers and their target sets, resolved once."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from extract.asked import choose_targets
from extract.config import ExtractConfig
from extract.plan_targets import Part, TargetSetJob, plan_targets
from extract.plan_views import Stored, ViewSetJob, plan_views, stored_views
from extract.several import each_teacher, own_flags

if TYPE_CHECKING:
    from extract.teachers.base import Teacher

MACHINE_SETTINGS = ("out", "devices", "launch", "dry_run", "plan", "max_memory")
"""Left out of the saved configuration: they differ between machines and change no stored byte."""


@dataclass(frozen=True)
class ExtractionPlan:
    """What is to be extracted; nothing is written yet."""

    parts: list[Part]
    """One for each teacher, one without where the views alone are asked for."""
    configs: list[ExtractConfig]
    """The flags of each, with every default that cache, source and teacher decide filled in."""

    @property
    def views(self) -> ViewSetJob:
        """The view set, as the first teacher is fed with it."""
        return self.parts[0].views

    @property
    def targets(self) -> list[TargetSetJob]:
        """The target sets of all teachers."""
        return [job for part in self.parts for job in part.targets]

    def flags(self, part: Part) -> dict[str, Any]:
        """The configuration to save of a part: the same for a first, a resumed and a repeated command."""
        saved: dict[str, Any] = {}
        for name, value in asdict(self.configs[self.parts.index(part)]).items():
            if name == "view":
                saved |= part.views.maker.flags()
            elif name not in MACHINE_SETTINGS:
                saved[name] = value
        return saved


def resolve(config: ExtractConfig) -> ExtractionPlan:
    """What `config` means here: flags first, then what the cache holds, then the source's and the teachers' defaults.

    Raises BadInput for what does not go together, IdentityMismatch where the cache holds something else.
    """
    first, *others = each_teacher(config)
    stored = stored_views(first)
    teacher = _load(stored)
    views = plan_views(stored, teacher.inputs if teacher else None)
    parts, configs = [_part(stored, views, teacher)], [stored.config]
    for other in others:
        # what the first teacher began is what a command of its own would find
        found = replace(stored, config=replace(stored.config, **own_flags(other)), plan=views.plan)
        teacher = _load(found)
        assert teacher is not None
        parts.append(_part(found, views.feeding(teacher.name, teacher.inputs), teacher))
        configs.append(found.config)
    return ExtractionPlan(parts, [_resolved(*each) for each in zip(configs, parts, strict=True)])


def _load(stored: Stored) -> "Teacher | None":
    """The teacher of a command line; BadInput where it does not give what is asked, before a corpus is tokenised."""
    config = stored.config
    if config.teacher == "none":
        return None
    from extract.teachers import load_teacher

    teacher = load_teacher(config.teacher, config.weights, stored.teacher_size(), config.weights_key)
    choose_targets(config, teacher)
    return teacher


def _part(stored: Stored, views: ViewSetJob, teacher: "Teacher | None") -> Part:
    if teacher is None:
        return Part(views)
    assert views.inputs is not None
    teacher = teacher.taking(views.inputs)
    return Part(views, teacher, plan_targets(stored.config, views, teacher))


def _resolved(config: ExtractConfig, part: Part) -> ExtractConfig:
    return replace(
        config,
        views=part.views.asked_views,
        shard_size=part.views.plan.shard_size,
        target=",".join(job.target for job in part.targets) or config.target,
        codec=",".join(job.codec.name for job in part.targets) or config.codec,
    )
