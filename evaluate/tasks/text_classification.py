"""text_classification: the student fine-tuned on labelled texts, as on a task of GLUE (see evaluate/text_tuning.py)."""

from typing import Any

from evaluate.evaluation import Evaluation
from evaluate.metrics import METRICS
from evaluate.text_tuning import TextSettings, TextTuning, for_texts
from evaluate.views import check_same_classes

TAKES = "text"
Settings = TextSettings


def measure(evaluation: Evaluation, settings: TextSettings) -> dict[str, Any]:
    """`top1` after the last epoch, and `f1` of class 1 of two; RUN/text_classification-DATA-HASH has the weights."""
    config = evaluation.config
    evaluation = for_texts(evaluation, "text_classification", settings.max_tokens)
    train, test = evaluation.source(config.train_split), evaluation.source(config.split)
    check_same_classes(train, test)
    tuning = TextTuning(evaluation, "text_classification", train, settings)
    tuned, loss = tuning.run()
    truth, predicted = tuning.predictions(tuned, test)
    tuning.note_full()
    metrics = {"top1": METRICS["accuracy"](truth, predicted)}
    if len(train.class_names or ()) == 2:
        metrics["f1"] = METRICS["f1"](truth, predicted)
    return {
        **{name: round(float(value), 6) for name, value in metrics.items()},
        "train_loss": round(loss, 6),
        "num_samples": len(test.keys),
        "data": evaluation.data()[0],
        "split": test.split,
        "train_split": train.split,
        "seed": config.seed,
        "folder": tuning.folder.name,
    }
