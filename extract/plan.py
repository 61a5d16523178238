"""Plan: a command line with nothing left open: its view set, its target sets and its teacher, resolved once."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from extract.config import ExtractConfig
from extract.plan_targets import TargetSetJob, choose_targets, plan_targets
from extract.plan_views import ViewSetJob, plan_views, stored_views

if TYPE_CHECKING:
    from extract.teachers.base import Teacher

MACHINE_SETTINGS = ("out", "devices")
"""Left out of the saved configuration: they differ between machines and change no stored byte."""


@dataclass(frozen=True)
class ExtractionPlan:
    """What is to be extracted; nothing is written yet."""

    config: ExtractConfig
    """The flags, with every default that cache, source and teacher decide filled in."""
    views: ViewSetJob
    targets: list[TargetSetJob]
    teacher: "Teacher | None"
    """None where the views alone are asked for."""

    def flags(self) -> dict[str, Any]:
        """The configuration to save: the same for a first, a resumed and a repeated command."""
        saved: dict[str, Any] = {}
        for name, value in asdict(self.config).items():
            if name == "view":
                saved |= self.views.maker.flags()
            elif name not in MACHINE_SETTINGS:
                saved[name] = value
        return saved


def resolve(config: ExtractConfig) -> ExtractionPlan:
    """What `config` means here: flags first, then what the cache holds, then the source's and the teacher's defaults.

    Raises BadInput for what does not go together, IdentityMismatch where the cache holds something else.
    """
    stored = stored_views(config)
    config, teacher = stored.config, None
    if config.teacher != "none":
        from extract.teachers import load_teacher

        teacher = load_teacher(config.teacher, config.weights, stored.teacher_size(), config.weights_key)
        choose_targets(config, teacher)  # what it does not give is refused before a corpus is tokenised
    views = plan_views(stored, teacher.inputs if teacher else None)
    if teacher is not None and views.inputs is not None:
        teacher = teacher.taking(views.inputs)
    targets = plan_targets(config, views, teacher) if teacher else []
    resolved = replace(
        config,
        views=views.asked_views,
        shard_size=views.plan.shard_size,
        target=",".join(job.target for job in targets) or config.target,
        codec=",".join(job.codec.name for job in targets) or config.codec,
    )
    return ExtractionPlan(resolved, views, targets, teacher)
