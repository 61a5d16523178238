"""Evaluation: what every task is given: the student, the views of a split, and the outputs of one on the other."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from evaluate.cache import TrainedOn, targetset_of, trained_on
from evaluate.config import EvaluateConfig
from evaluate.runs import weights_of
from evaluate.student import TrainedStudent, check_output
from evaluate.views import Views, check_fits, check_same_classes, views_of_cache, views_of_source
from extract.sources import open_source
from shards.cache import Cache, ListedViewSet, choose_viewset, open_cache
from shards.command.progress import Progress
from shards.errors import BadInput
from shards.reader import TargetSet, ViewSet, check_pair

if TYPE_CHECKING:
    from extract.sources.base import Source

FORWARD_BATCH = 256


@dataclass
class Evaluation:
    """One run under measurement."""

    config: EvaluateConfig
    run: Path
    student: TrainedStudent

    def views(self, split: str) -> Views:
        """Labelled views of `split`: of --data, else those stored in --shards, else of the source the teacher saw."""
        config, inputs, batch_size = self.config, self.student.inputs, self.batch_size
        if config.data is None and config.shards is not None:
            viewset = ViewSet(self.stored_views(split).folder)
            return views_of_cache(viewset, inputs, batch_size, config.num_workers, config.limit)
        return views_of_source(self.source(split), self.data()[0], inputs, batch_size, config.num_workers)

    def data(self) -> tuple[str, str | None]:
        """--data and --data_dir, else those that the view set in --shards or in the run's cache was extracted from."""
        config = self.config
        if config.data is not None:
            return config.data, config.data_dir
        viewset = trained_on(self.run).viewset if config.shards is None else self.stored_views(config.split)
        return viewset.request["data"], config.data_dir or viewset.request["data_dir"]

    def source(self, split: str) -> "Source":
        """The samples of `split` of that data, the first `--limit` of them."""
        data, data_dir = self.data()
        source = open_source(data, split, data_dir, self.config.limit)
        for note in source.notes:
            print(f"evaluate: note: {note}")
        return source

    @cached_property
    def weights_sha256(self) -> str:
        """The hash of the network's weights, which every result is true of."""
        return weights_of(self.run)

    @property
    def batch_size(self) -> int:
        """Images in one forward of the student."""
        return self.config.batch_size or FORWARD_BATCH

    def train_and_test(self) -> tuple[Views, Views]:
        """Labelled views to learn from and to measure on, of the same classes."""
        train, test = self.views(self.config.train_split), self.views(self.config.split)
        check_same_classes(train.class_names, train.split, test)
        return train, test

    @cached_property
    def trained(self) -> TrainedOn | None:
        """What the run was trained on; None where that is no longer here."""
        with contextlib.suppress(BadInput):
            return trained_on(self.run)
        return None

    @cached_property
    def cache(self) -> Cache:
        """--shards, else the cache that the run was trained on."""
        shards = self.config.shards
        return open_cache(trained_on(self.run).viewset.folder.parent if shards is None else shards, "--shards")

    def stored_views(self, split: str) -> ListedViewSet:
        """The view set of `split`, of the run's own source and modality where that cache has these."""
        like = (self.trained.viewset.source, self.trained.viewset.modality) if self.trained else ()
        return choose_viewset(self.cache, split, *like)

    def stored(self) -> tuple[ViewSet, TargetSet]:
        """The stored views of the split and the teacher's targets for them, in --shards or the run's own cache."""
        listed = self.stored_views(self.config.split)
        viewset = ViewSet(listed.folder)
        check_fits(viewset, self.student.inputs)
        targetset = TargetSet(targetset_of(listed, self.config.targetset, self.trained).folder)
        check_pair(viewset, targetset)
        return viewset, targetset

    def outputs(self, views: Views, name: str) -> Iterator[tuple[Float[Tensor, "batch _"], Int64[Tensor, " batch"]]]:
        """The student's output `name` (logits or pooled) and the labels, batch by batch, on the student's device."""
        check_output(self.student, name, f"--run {self.run}")
        with Progress(f"{self.run.name}: {name} of {views.split}", views.num_samples, "samples") as progress:
            student = self.student.only(name)
            for fields, labels in views.batches():
                yield student(fields)[name], labels.to(self.student.device)
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
