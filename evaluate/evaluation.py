"""Evaluation: what every task is given: the student, the views of a split, and the outputs of one on the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from evaluate.cache import find_targetset, find_viewset, trained_on, trained_on_if_here
from evaluate.config import EvaluateConfig
from evaluate.student import Student, check_output
from evaluate.views import Views, check_image_size, views_of_cache, views_of_source
from extract.sources import open_source
from shards.errors import BadInput
from shards.progress import Progress
from shards.reader import TargetSet, ViewSet, check_pair

Task = Callable[["Evaluation"], dict[str, Any]]
"""A task's `measure`: its metrics, with num_samples, data and split, as they are put into evaluation.json."""


@dataclass
class Evaluation:
    """One run under measurement."""

    config: EvaluateConfig
    run: Path
    student: Student

    def views(self, split: str) -> Views:
        """Labelled views of `split`: of --data, else those stored in --shards, else of the source the teacher saw."""
        config, size = self.config, self.student.image_size
        if config.data is None and config.shards is not None:
            viewset = ViewSet(find_viewset(Path(config.shards), split, trained_on_if_here(self.run)))
            return views_of_cache(viewset, size, config.batch_size, config.num_workers, config.limit)
        data, data_dir = config.data, config.data_dir
        if data is None:
            request = trained_on(self.run).plan.request
            data, data_dir = request["data"], data_dir or request["data_dir"]
        source = open_source(data, split, data_dir, config.limit)
        return views_of_source(source, data, size, config.batch_size, config.num_workers)

    def train_and_test(self) -> tuple[Views, Views]:
        """Labelled views to learn from and to measure on, of the same classes."""
        train, test = self.views(self.config.train_split), self.views(self.config.split)
        if train.class_names[: len(test.class_names)] != test.class_names:
            raise BadInput(
                f"--train_split {train.split} and --split {test.split} have other classes; give other splits"
            )
        return train, test

    def stored(self) -> tuple[ViewSet, TargetSet]:
        """The stored views of the split and what the teacher said of them, in --shards or the run's own cache."""
        shards = self.config.shards
        beside = trained_on(self.run) if shards is None else trained_on_if_here(self.run)
        place = Path(shards) if shards is not None else beside.viewset.parent if beside else Path()
        viewset = ViewSet(find_viewset(place, self.config.split, beside))
        check_image_size(viewset, self.student.image_size)
        targetset = TargetSet(find_targetset(viewset.folder, self.config.targetset, beside))
        check_pair(viewset, targetset)
        return viewset, targetset

    def outputs(self, views: Views, name: str) -> Iterator[tuple[Float[Tensor, "batch _"], Int64[Tensor, " batch"]]]:
        """The student's output `name` (logits or pooled) and the labels, batch by batch, on the student's device."""
        check_output(self.student, name, f"--run {self.run}")
        with Progress(f"{self.run.name}: {name} of {views.split}", views.num_samples, "samples") as progress:
            for images, labels in views.batches():
                yield self.student(images)[name], labels.to(self.student.device)
                progress.advance(len(labels))

    def features(self, views: Views) -> tuple[Float[Tensor, "samples width"], Int64[Tensor, " samples"]]:
        """The pooled features and labels of all samples, on the CPU: 2.6 GB for ImageNet at width 512."""
        features, labels = torch.empty(0, 0), torch.empty(views.num_samples, dtype=torch.int64)
        start = 0
        for pooled, batch_labels in self.outputs(views, "pooled"):
            if start == 0:  # one block that is filled: joining the batches at the end would hold them twice
                features = torch.empty(views.num_samples, pooled.shape[1])
            features[start : start + len(pooled)] = pooled.cpu()
            labels[start : start + len(pooled)] = batch_labels.cpu()
            start += len(pooled)
        return features, labels
