"""Fine-tuning: a network trained on a source, in a folder of the run whose name tells what the weights follow from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluate.evaluation import Evaluation
from evaluate.preset import TrainingSettings, as_facts
from evaluate.training import Method, Training
from evaluate.training_views import TrainingViews
from evaluate.views import Make, threads
from shards.errors import BadInput
from shards.identity import identity_hash

if TYPE_CHECKING:
    from extract.sources.base import Source


def folder_of(
    evaluation: Evaluation, task: str, source: "Source", settings: TrainingSettings, others: dict[str, Any]
) -> Path:
    """TASK-SOURCE-HASH among the results; the hash covers weights, data, settings, seed, precision and `others`."""
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
    return evaluation.folder / f"{task}-{source.name}-{identity_hash(identity)[:8]}"


def fine_tuned(
    evaluation: Evaluation,
    folder: Path,
    source: "Source",
    make: Make,
    settings: TrainingSettings,
    method: Method,
) -> float:
    """The network of `evaluation` has its trained weights; the last epoch's mean loss.

    One that was interrupted goes on after the last whole epoch that `folder` has, and ends with the same weights.
    """
    config = evaluation.config
    views = TrainingViews(source, make, settings.batch_size, config.seed, threads(config.num_workers))
    if views.num_batches == 0:
        samples = f"{source.split} has {len(source.keys)} samples"
        raise BadInput(f"--batch_size {settings.batch_size}: {samples}; give at most that many")
    return Training(evaluation.student, views, settings, method).run(folder)
