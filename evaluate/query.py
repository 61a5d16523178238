"""Query: the images of a cache that are nearest to a text, as a picture and as lines."""

import io
import re
from pathlib import Path

import torch

from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.pairs import Embedder
from evaluate.runs import check_run, weights_of
from evaluate.student import load_student
from evaluate.views import check_fits
from shards.command.progress import Progress
from shards.commit import write_atomically
from shards.contact_sheet import contact_sheet
from shards.loader import BatchLoader, in_order
from shards.reader import ViewSet
from shards.views.pair import CAPTIONS

SHOWN = 12


def show_nearest(config: EvaluateConfig) -> None:
    """RUN/query-TEXT.png shows the nearest images of --split in the cache, and each is a line: cosine, key, caption."""
    assert config.run is not None and config.query is not None
    run = Path(config.run)
    check_run(run)
    student = load_student(run, config.device, config.precision)
    evaluation = Evaluation(config, run, student, weights_of(run), run)
    embedder = Embedder.of(evaluation, "--query")
    viewset = ViewSet(evaluation.stored_views(config.split).folder)
    check_fits(viewset, embedder.image.inputs)
    cosines, samples = _nearest(evaluation, embedder, viewset, config.query)
    captions = dict[tuple[int, int], list[str]]()
    for cosine, sample in zip(cosines, samples, strict=True):
        key, facts = viewset.plan.keys[sample], viewset.storage.facts(0, sample)
        texts = facts.get(CAPTIONS, [])
        captions[0, sample] = [f"{cosine:.4f} {key}", *texts[:1]]
        print(f"{cosine:7.4f}  {key}  {' | '.join(texts)}".rstrip())
    sheet = contact_sheet(viewset, captions)
    assert sheet is not None
    path = run / f"query-{re.sub(r'[^0-9A-Za-z]+', '-', config.query).strip('-')[:60] or 'text'}.png"
    content = io.BytesIO()
    sheet.save(content, "PNG")
    write_atomically(path, content.getvalue())
    print(f"evaluate: {config.query!r}: the nearest of {len(viewset.usable[: config.limit]):,} images: {path}")


def _nearest(evaluation: Evaluation, embedder: Embedder, viewset: ViewSet, text: str) -> tuple[list[float], list[int]]:
    """The largest cosines with `text` and the samples that have them, the nearest first."""
    config, size = evaluation.config, evaluation.batch_size
    samples, threads = viewset.usable[: config.limit], evaluation.num_threads
    asked, kept = embedder.sentences([text])[0], torch.empty(0, device=embedder.image.device)
    places = torch.empty(0, dtype=torch.int64)
    with Progress(f"{evaluation.folder.name}: {embedder.output} of {config.split}", len(samples)) as progress:
        for batch in BatchLoader(viewset, [], in_order(samples, size), size, num_threads=threads):
            cosines = torch.cat([kept, embedder.images(batch.fields) @ asked])
            kept, best = cosines.topk(min(SHOWN, len(cosines)))
            places = torch.cat([places, torch.from_numpy(batch.samples.copy())])[best.cpu()]
            progress.advance(len(batch.samples))
    return kept.tolist(), places.tolist()
