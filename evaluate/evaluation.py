"""Evaluation: what every task is given: the student, the views of a split, and the outputs of one on the other."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float, Num
from torch import Tensor

from evaluate.cache import Stored, trained_on
from evaluate.config import EvaluateConfig
from evaluate.student import TrainedStudent, check_finite, check_output
from evaluate.views import Make, Views, check_same_classes, views_of_cache, views_of_source
from extract.modalities import plain_maker
from extract.modalities.base import ViewMaker
from extract.named import of_cache
from extract.sources import open_source
from shards.command.devices import share_of_cores
from shards.command.progress import Progress
from shards.errors import BadInput
from shards.reader import ViewSet

if TYPE_CHECKING:
    from extract.sources.base import Source

FORWARD_BATCH = 256


@dataclass
class Evaluation:
    """One network under measurement: a run's student, or its teacher."""

    config: EvaluateConfig
    run: Path
    """The run that says what data is meant."""
    student: TrainedStudent
    weights_sha256: str
    """Of its network: results are true of these weights alone."""
    folder: Path
    """Where its results and what it is fine-tuned to are kept."""

    @cached_property
    def stored(self) -> Stored:
        """What is stored of it and of its data."""
        return Stored(self.run, self.config.shards, self.config.targetset, self.student.inputs)

    def views(self, split: str) -> Views:
        """Labelled views of `split`: of --data, else those stored in --shards, else of the source the teacher saw."""
        config = self.config
        if config.data is None and config.shards is not None:
            viewset = ViewSet(self.stored.viewset(split).folder)
            return views_of_cache(viewset, self.student.inputs, self.batch_size, self.num_threads, config.limit)
        return self.views_of(self.source(split), self.data()[0])

    def views_of(self, source: "Source", name: str, make: Make | None = None) -> Views:
        """The plain views of `source`, as the network takes them; a record of them has `name` as its data."""
        return views_of_source(source, name, make or self.maker.make, self.batch_size, self.num_threads)

    def data(self) -> tuple[str, str | None]:
        """--data and --data_dir, else those that the view set in --shards or in the run's cache was extracted from."""
        config = self.config
        if config.data is not None:
            return config.data, config.data_dir
        viewset = trained_on(self.run).viewset if config.shards is None else self.stored.viewset(config.split)
        return of_cache(viewset, config.data_dir)

    def source(self, split: str) -> "Source":
        """The labelled samples of `split` of that data, the first `--limit` of them, as the network's input needs them.

        Raises BadInput for samples that lack a part, or classes.
        """
        data, data_dir = self.data()
        source = open_source(data, split, data_dir, self.config.limit).only(self.maker.needs)
        if lacking := self.maker.needs - source.has:
            raise BadInput(f"--data {data}: its samples have no {' and no '.join(sorted(lacking))}; give other data")
        if source.class_names is None:
            where = f"{source.name}, split {source.split}"
            raise BadInput(f"--data: {where}: the samples have no labels; this task needs them")
        arranged = self.maker.arrange(source, Path(self._scratch.name) / f"{source.name}-{source.split}", False)
        for note in arranged.notes:
            print(f"evaluate: note: {note}")
        return arranged

    @cached_property
    def maker(self) -> ViewMaker:
        """What makes plain views as the network takes them."""
        return plain_maker(self.student.inputs)

    @cached_property
    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        """What streamed sources are cut from; it goes with the process."""
        return tempfile.TemporaryDirectory(prefix="evaluate-")

    @property
    def batch_size(self) -> int:
        """Samples in one forward of the student."""
        return self.config.batch_size or FORWARD_BATCH

    @property
    def num_threads(self) -> int:
        """Threads that read samples."""
        return self.config.num_threads or share_of_cores()

    def train_and_test(self) -> tuple[Views, Views]:
        """Labelled views to learn from and to measure on, of the same classes."""
        train, test = self.views(self.config.train_split), self.views(self.config.split)
        check_same_classes(train, test)
        return train, test

    def outputs(self, views: Views, name: str) -> Iterator[tuple[Float[Tensor, "batch _"], Num[Tensor, " batch"]]]:
        """The output `name`, a row a sample (logits, pooled, cls), and the labels, batch by batch, on the device."""
        check_output(self.student, name, str(self.folder))
        with Progress(f"{self.folder.name}: {name} of {views.split}", views.num_samples, "samples") as progress:
            student = self.student.only(name)
            for fields, labels in views.batches():
                rows = student(student.inputs.cut(fields))[name]
                check_finite(rows, name, f"{self.folder}: {views.name}, {views.split}")
                yield rows, labels.to(self.student.device)
                progress.advance(len(labels))
