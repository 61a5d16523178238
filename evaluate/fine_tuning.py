"""Fine-tuning: a classifier trained on a source, in a folder of the run that says by its name what it follows from."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from evaluate.evaluation import Evaluation
from evaluate.preset import TrainingSettings, as_facts
from evaluate.training import Method, Training
from evaluate.training_views import TrainingViews
from evaluate.views import threads
from shards.errors import BadInput
from shards.identity import identity_hash
from shards.views.base import Row

if TYPE_CHECKING:
    from extract.sources.base import Sample, Source


class Tuned(NamedTuple):
    """What a fine-tuning left: the last epoch's mean loss, and the folder with the trained weights."""

    loss: float
    folder: Path


def folder_of(
    evaluation: Evaluation, task: str, source: "Source", settings: TrainingSettings, others: dict[str, Any]
) -> Path:
    """RUN/TASK-SOURCE-HASH; the hash covers the weights, data, settings, seed and `others` that the result needs."""
    config = evaluation.config
    identity = {
        "weights": evaluation.weights_sha256,
        "settings": as_facts(settings) | {"preset": None},  # what it is called decides nothing
        "precision": config.precision,
        "source": source.name,
        "revision": source.revision,
        "split": source.split,
        "keys": list(source.keys),
        "seed": config.seed,
        **others,
    }
    return evaluation.run / f"{task}-{source.name}-{identity_hash(identity)[:8]}"


def fine_tuned(
    evaluation: Evaluation,
    task: str,
    source: "Source",
    make: "Callable[[Sample, int], Row]",
    classifier: nn.Module,
    settings: TrainingSettings,
    method: Method,
    others: dict[str, Any],
) -> Tuned:
    """`classifier` has its trained weights, from the checkpoint in its folder as far as that goes.

    An interrupted one goes on after its last whole epoch and ends with the same weights.
    """
    config = evaluation.config
    views = TrainingViews(source, make, settings.batch_size, config.seed, threads(config.num_workers))
    if views.num_batches == 0:
        samples = f"{source.split} has {len(source.keys)} samples"
        raise BadInput(f"--batch_size {settings.batch_size}: {samples}; give at most that many")
    folder = folder_of(evaluation, task, source, settings, others)
    return Tuned(Training(classifier, evaluation.student, views, settings, method).run(folder), folder)
