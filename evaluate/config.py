"""The flags of `python -m evaluate`."""

from dataclasses import dataclass
from typing import Any

from shards.command.arguments import Aliases
from shards.command.ranges import COUNT, Count, Positive, Precision, Seed
from shards.errors import BadInput

DESCRIPTION = (
    "Measure a distilled student: --run alone is enough, what it was trained on says where the data is. "
    "--runs DIR prints one table over all that was measured."
)


@dataclass(frozen=True)
class EvaluateConfig:
    """Which student to measure, how, and on what."""

    run: str | None = None
    """The folder of a run that `python -m distill` finished; results are merged into its evaluation.json."""
    runs: str | None = None
    """A folder of runs, at any depth: print one table of what was measured of them, and measure nothing."""
    ledger: bool = False
    """With --runs: print what each run saved against the teacher in the loop, and what may be deleted of the runs and
    of the caches that they read or of --shards, as python -m shards ledger does."""
    teacher: str | None = None
    """The run's teacher, as extract's --teacher: measured too, the table has the share that the student keeps."""
    task: str | None = None
    """accuracy, knn, linear, finetune, text_classification, glue, sts, fidelity, retrieval or zeroshot, several by
    commas (default: accuracy)."""
    query: str | None = None
    """A text: show the images of a cache that are nearest to it, by a run of images and texts, and measure nothing."""
    preset: str | dict[str, Any] | None = None
    """The hyperparameters, by a preset's name or a YAML file, with changes as knn:k=5 (default: the one that fits the
    task and the data)."""
    data: str | None = None
    """The source, as extract's --data (default: the one the run's teacher saw)."""
    data_dir: str | None = None
    """A local copy of the source, as extract's --data_dir."""
    split: str = "validation"
    """The split to measure on."""
    train_split: str = "train"
    """The split that knn, linear and finetune learn from."""
    limit: Count | None = None
    """Take the first N samples of each split only."""
    shards: str | None = None
    """A cache, or a view set or target set of it: views in place of --data, and fidelity's targets (default: the run's
    cache)."""
    targetset: str | None = None
    """fidelity's target set, by name or a part of it (default: what the run learned from, else logits)."""
    batch_size: Count | None = None
    """Samples in one forward (default: 256), and in one training step (default: the preset's)."""
    precision: Precision = "float32"
    """The network's arithmetic: float32, or bfloat16 or float16 by autocast."""
    device: str = "auto"
    """auto (the first GPU, else the CPU), cpu, cuda or cuda:N; with cpu,threads=N (or auto, cuda) so many threads read
    samples (default: the cores that this process may use)."""
    epochs: Count | None = None
    """linear, finetune, text_classification, glue: passes over the training split (default: the preset's)."""
    lr: Positive | None = None
    """the same: AdamW's peak learning rate (default: the preset's)."""
    seed: Seed = 0
    """the same: of the head's first weights, the order of samples and all augmentation."""

    @property
    def device_name(self) -> str:
        """--device without its threads."""
        return self.device.partition(",")[0]

    @property
    def num_threads(self) -> int | None:
        """The threads of --device; None where it names none, BadInput for what are none."""
        _, comma, option = self.device.partition(",")
        if not comma:
            return None
        name, _, value = option.partition("=")
        if name != "threads":
            raise BadInput(f"--device {self.device}: expected threads=N after the comma, as in cpu,threads=4")
        COUNT.check(f"--device {self.device}: threads", int(value) if value.isdecimal() else value)
        return int(value)


def check_config(config: EvaluateConfig) -> None:
    """Raises BadInput for flags that do not go together."""
    if (config.run is None) == (config.runs is None):
        raise BadInput("give --run RUN to measure one run, or --runs DIR for a table over several (one of the two)")
    if config.query is not None and (config.runs or config.task or config.data or config.teacher):
        raise BadInput("--query only shows images of a cache: give it with --run and --shards, and nothing to measure")
    if config.query is not None and not config.query.strip():
        raise BadInput("--query: expected words, found none; give a text as a caption has it")
    if config.ledger and config.runs is None:
        raise BadInput("--ledger: counts what a folder of runs saved; give it with --runs DIR")
    shards = None if config.ledger else config.shards
    if config.runs is not None and (config.task or config.data or shards or config.teacher):
        raise BadInput("--runs only prints what was measured: give --task, --teacher, --data and --shards with --run")
    _ = config.num_threads  # refuses what are no threads


ALIASES = (
    Aliases(("k",), "preset", lambda values: f"knn:k={values['k']}"),
    Aliases(
        ("num_workers",),
        "device",
        lambda values: f"{values.get('device', 'auto').partition(',')[0]},threads={values['num_workers']}",
        joins=True,
    ),
)
"""The flag of knn before --preset took changes, and the number of threads, which extract and distill have none for."""
