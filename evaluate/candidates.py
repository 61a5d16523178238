"""Candidates: the embedded images and captions of a split, of stored views, a source, or two teachers' stored rows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from evaluate.cache import targetset_of, trained_on
from evaluate.evaluation import Evaluation
from evaluate.pairs import Embedder
from evaluate.student import check_finite
from evaluate.towers import HEAD
from evaluate.views import check_fits
from extract.modalities.pair import PairInput, TowersInput, token_rows
from extract.sources import open_source
from extract.sources.base import Sample
from shards.command.progress import Progress
from shards.decode import codec_of, decode
from shards.errors import BadInput
from shards.in_order import in_order
from shards.loader import Batch as StoredBatch
from shards.loader import BatchLoader
from shards.reader import Component, TargetSet, ViewSet, check_pair
from shards.views.base import Row
from shards.views.pair import CAPTIONS, Captions, PairCodec

Fields = dict[str, Tensor]
Batch = tuple[Float[Tensor, "batch width"], Float[Tensor, "batch most width"], Bool[Tensor, "batch most"]]
"""Images, their captions, and which of these are any."""


class Candidates(NamedTuple):
    """Rows of length 1, on the student's device."""

    images: Float[Tensor, "images width"]
    texts: Float[Tensor, "texts width"]
    owners: Int64[Tensor, " texts"]
    """The image of each text, ascending, on the CPU."""
    facts: dict[str, Any]
    """What a record says of them."""


Facts = dict[str, Any]


def candidates(evaluation: Evaluation, where: str, output: str, most: int) -> Candidates:
    """Every image of --split with its first `most` captions; errors begin with `where`."""
    config = evaluation.config
    if isinstance(evaluation.student.inputs, TowersInput) and config.data is None:
        output, (facts, batches) = HEAD, of_rows(evaluation)
    else:
        embedder = Embedder.of(evaluation, where, output)
        evaluation = replace(evaluation, student=replace(evaluation.student, inputs=embedder.inputs))
        stored = config.data is None and config.shards is not None
        facts, fields = (_stored_pairs if stored else _pairs_of_source)(evaluation, most)
        output, batches = embedder.output, _embedded(embedder, fields)
    images, texts, owners, start = list[Tensor](), list[Tensor](), list[Tensor](), 0
    with Progress(f"{evaluation.folder.name}: {output} of {facts['split']}", facts["num_samples"]) as progress:
        for of_images, of_texts, valid in batches:
            valid = valid[:, :most]
            for rows in (of_images, of_texts):
                check_finite(rows, output, f"{evaluation.folder}: {facts['data']}, {facts['split']}")
            images.append(of_images)
            texts.append(of_texts[:, :most][valid])
            owners.append(start + valid.nonzero()[:, 0].cpu())
            start += len(of_images)
            progress.advance(len(of_images))
    return Candidates(torch.cat(images), torch.cat(texts), torch.cat(owners), facts | {"output": output})


def _captions(evaluation: Evaluation, most: int) -> Captions:
    inputs = evaluation.student.inputs
    assert isinstance(inputs, PairInput)
    return Captions(inputs.text.size, inputs.text.vocabulary.dtype, token_rows(inputs.text), most)


def _stored_pairs(evaluation: Evaluation, most: int) -> tuple[Facts, Iterator[Fields]]:
    """`pixels`, and `tokens` and `length` of the first `most` captions, of the stored views of the split."""
    viewset = ViewSet(evaluation.stored.viewset(evaluation.config.split).folder)
    check_fits(viewset, evaluation.student.inputs)
    assert isinstance(viewset.codec, PairCodec)
    if viewset.codec.augmented:
        raise BadInput(f"{viewset.folder}: its views are augmented, this task needs whole images; give --data")
    facts, batches = _stored(evaluation, viewset.read_by(viewset.codec.reading(_captions(evaluation, most))), [])
    return facts, (batch.fields for batch in batches)


def _stored(
    evaluation: Evaluation, viewset: ViewSet, targetsets: list[TargetSet]
) -> tuple[Facts, Iterator[StoredBatch]]:
    samples = viewset.usable[: evaluation.config.limit]
    size, num_threads = evaluation.batch_size, evaluation.num_threads
    loader = BatchLoader([Component(viewset, targetsets)], in_order(samples, size), size, num_threads=num_threads)
    split = viewset.identity["split"]
    return {"num_samples": len(samples), "data": viewset.folder.name, "split": split}, iter(loader)


def _pairs_of_source(evaluation: Evaluation, most: int) -> tuple[Facts, Iterator[Fields]]:
    """The same, made of the samples of --data, or of the source that the run's teacher saw."""
    config, maker, captions = evaluation.config, evaluation.maker, _captions(evaluation, most)
    data, data_dir = evaluation.data()
    source = open_source(data, config.split, data_dir, config.limit)
    if lacking := maker.needs - source.has:
        raise BadInput(
            f"--data {data}: its samples have no {' and no '.join(sorted(lacking))}; give images with captions"
        )

    def fetch(index: int) -> tuple[Any, ...]:
        image, _, *texts = source.fetch(index)
        return image, 0, *texts  # views are read with labels, and pairs have none

    def make(sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        row, facts = maker.make(sample, view)
        tokens = {name: np.empty(shape, dtype) for name, (dtype, shape) in captions.fields.items()}
        captions.fill(facts[CAPTIONS], tokens, 0)
        return row | tokens, facts

    views = evaluation.views_of(replace(source, fetch=fetch, class_names=None), data, make)
    return views.facts(), (fields for fields, _ in views.batches())


def _embedded(embedder: Embedder, batches: Iterator[Fields]) -> Iterator[Batch]:
    for fields in batches:
        valid = fields["length"].to(torch.int64) > 0
        texts = embedder.texts({name: fields[name][valid] for name in ("tokens", "length")})
        valid = valid.to(texts.device)
        spread = texts.new_zeros(*valid.shape, texts.shape[1]).masked_scatter(valid[..., None], texts)
        yield embedder.images(fields), spread, valid


def of_rows(evaluation: Evaluation) -> tuple[Facts, Iterator[Batch]]:
    """The split's stored rows of the two teachers that the run learned from, through its heads."""
    student, trained = evaluation.student, trained_on(evaluation.run)
    listed = evaluation.stored.viewset(evaluation.config.split)
    viewset = ViewSet(listed.folder)
    check_fits(viewset, student.inputs)
    alike = [targetset_of(listed, str(known).rpartition("-")[0], trained) for known in trained.targetsets]
    targetsets = [TargetSet(each.folder) for each in alike]
    for targetset in targetsets:
        check_pair(viewset, targetset)
    codecs = [codec_of(targetset) for targetset in targetsets]
    fed = [targetset.identity["teacher"]["preprocessing"] for targetset in targetsets]
    facts, stored = _stored(evaluation, viewset.read_by(student.inputs.reads(viewset.codec)), targetsets)

    def batches() -> Iterator[Batch]:
        for batch in stored:
            parts = [batch.targets[targetset.folder.name] for targetset in targetsets]
            rows = [decode(codec, part) for codec, part in zip(codecs, parts, strict=True)]
            outputs = student(student.inputs.beside(batch.fields, rows, fed))
            texts = F.normalize(outputs["text/head"], dim=2)
            yield F.normalize(outputs["image/head"], dim=1), texts, outputs["text/valid"].bool()

    return facts, batches()
