"""Fine-tuning: a network trained on a source, in a folder of the run whose name tells what the weights follow from."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from evaluate.evaluation import Evaluation
from evaluate.preset import TrainingSettings, as_facts
from evaluate.training import Method, Training
from evaluate.views import Make, TrainingViews
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
        "class_names": source.class_names,
        **others,
    }
    return evaluation.folder / f"{task}-{source.name}-{identity_hash(identity)[:8]}"


def fine_tuned(
    evaluation: Evaluation,
    folder: Path,
    classifier: nn.Module,
    source: "Source",
    make: Make,
    settings: TrainingSettings,
    method: Method,
) -> tuple[Evaluation, float]:
    """The evaluation of `classifier`, trained on `source` to give `logits`, and the last epoch's mean loss.

    One that was interrupted goes on after the last whole epoch that `folder` has, and ends with the same weights.
    """
    config, device = evaluation.config, evaluation.student.device
    views = TrainingViews(source, make, settings.batch_size, config.seed, evaluation.num_threads)
    if views.num_batches == 0:
        samples = f"{source.split} has {len(source.keys)} samples"
        raise BadInput(f"--batch_size {settings.batch_size}: {samples}; give at most that many")
    names = source.class_names
    network, num_classes = classifier.to(device), len(names) if names else None
    student = replace(evaluation.student, network=network, num_classes=num_classes, class_names=names)
    loss = Training(student, views, settings, method).run(folder)
    classifier.eval()
    return replace(evaluation, student=student), loss
