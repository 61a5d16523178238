"""glue: the student fine-tuned on each of GLUE's nine tasks (Wang et al. 2018, arXiv:1804.07461), and their average.

As the thesis counts (T. Cares 2024), which is how DistilBERT does (Sanh et al. 2019, arXiv:1910.01108, table 1): one
score a task, WNLI included, on the validation splits, after the last epoch. MNLI's is the mean of its two.
"""

from dataclasses import dataclass
from typing import Any

from evaluate import preset
from evaluate.evaluation import Evaluation
from evaluate.metrics import METRICS
from evaluate.text_tuning import TextSettings, TextTuning, for_texts
from evaluate.training import CHECKPOINT
from extract.sources import open_source
from shards.command.ranges import Betas, Count, NotNegative, Positive, Share, ShareAboveZero, ShareBelowOne
from shards.command.settings import as_values, given_flags, parse_settings
from shards.commit import write_sealed
from shards.errors import BadInput, UnknownName
from shards.sealed import check_seal, read_object

TAKES = "text"
SCORES = {
    "cola": ("matthews",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("spearman", "pearson"),
    "qqp": ("f1", "accuracy"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}
"""The metrics of each task; the first is its score."""
DOCUMENT = "scores.json"
RESTORE = "remove its folder to train again"


@dataclass(frozen=True, kw_only=True)
class Settings(preset.Settings):
    """What all tasks have in common, and each one's own epochs, batch size and learning rate."""

    tasks: dict[str, dict[str, Any]]
    betas: Betas
    eps: Positive
    weight_decay: NotNegative
    warmup: Share
    layer_decay: ShareAboveZero
    dropout: ShareBelowOne
    max_tokens: Count


def measure(evaluation: Evaluation, settings: Settings) -> dict[str, Any]:
    """Each task's score under its name, its other metrics as TASK_METRIC, and `average`.

    A finished task is read from its folder, RUN/finetune-glue-TASK-HASH; an interrupted one goes on after its last
    whole epoch.
    """
    config = evaluation.config
    evaluation = for_texts(evaluation, "glue", settings.max_tokens)
    if config.data not in (None, "glue"):
        raise BadInput(f"--data {config.data}: --task glue brings its own; leave --data out, or give --data_dir")
    if unknown := [name for name in settings.tasks if name not in SCORES]:
        raise UnknownName("GLUE task", unknown[0], SCORES)
    if not settings.tasks:
        raise BadInput(f"--preset {settings.preset}: tasks names none; name some of {', '.join(SCORES)}")
    # all data is opened before the first training starts: what is missing is told now and not after a day
    tasks = [GlueRun(evaluation, name, settings) for name in settings.tasks]
    documents = {task.name: task.scores() for task in tasks}
    scores = {name: document[SCORES[name][0]] for name, document in documents.items()}
    details = {
        f"{name}_{metric}": value
        for name, document in documents.items()
        for metric, value in document.items()
        if metric not in (SCORES[name][0], "num_samples", "train_loss")
    }
    chosen = {task.name: {name: getattr(task.settings, name) for name in settings.tasks[task.name]} for task in tasks}
    return {
        **scores,
        "average": round(sum(scores.values()) / len(scores), 6),
        **details,
        "num_samples": sum(document["num_samples"] for document in documents.values()),
        "data": "glue",
        "split": config.split,
        "train_split": config.train_split,
        "tasks": chosen,
        "samples": {name: document["num_samples"] for name, document in documents.items()},
        "train_losses": {name: document["train_loss"] for name, document in documents.items()},
        "seed": config.seed,
    }


class GlueRun:
    """One task: its data, its fine-tuning, and the document of its scores."""

    def __init__(self, evaluation: Evaluation, name: str, settings: Settings) -> None:
        config, self.name = evaluation.config, name
        common = {field: value for field, value in as_values(settings).items() if field != "tasks"}
        values = common | settings.tasks[name] | given_flags(TextSettings, config) | {"preset": settings.preset}
        self.settings = parse_settings(TextSettings, values, f"--preset {settings.preset}: {name}")
        splits = [f"{config.split}_{kind}" for kind in ("matched", "mismatched")] if name == "mnli" else [config.split]
        self.tests = [open_source(f"glue:{name}", split, config.data_dir, config.limit) for split in splits]
        train = open_source(f"glue:{name}", config.train_split, config.data_dir, config.limit)
        tests = [(test.revision, test.split, len(test.keys)) for test in self.tests]
        self.tuning = TextTuning(evaluation, "finetune", train, self.settings, tests=tests)

    def scores(self) -> dict[str, Any]:
        """The metrics, of each test split as METRIC_KIND and their means, from the folder or measured now.

        Nine networks would take 4 GB a run: the weights go when the document is there.
        """
        path = self.tuning.folder / DOCUMENT
        if path.is_file():
            finished = read_object(path, RESTORE)
            check_seal(path, finished, RESTORE)
            return finished
        tuned, loss = self.tuning.run()
        predictions = [self.tuning.predictions(tuned, test) for test in self.tests]
        document: dict[str, Any] = {}
        for metric in SCORES[self.name]:
            values = [float(METRICS[metric](truth, predicted)) for truth, predicted in predictions]
            if len(values) > 1:
                kinds = [test.split.rpartition("_")[2] for test in self.tests]
                document |= {f"{metric}_{kind}": round(value, 6) for kind, value in zip(kinds, values, strict=True)}
            document[metric] = round(sum(values) / len(values), 6)
        document |= {"train_loss": round(loss, 6), "num_samples": sum(len(test.keys) for test in self.tests)}
        self.tuning.note_full()
        write_sealed(path, document)
        (path.parent / CHECKPOINT).unlink(missing_ok=True)
        return document
