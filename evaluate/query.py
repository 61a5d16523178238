"""Query: the images of a cache that are nearest to a text, as a picture and as lines."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from evaluate.candidates import of_rows
from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.pairs import Embedder, sentence_rows
from evaluate.runs import check_run
from evaluate.student import load_student
from evaluate.towers import HEAD, tower
from evaluate.views import check_fits
from extract.modalities.pair import TowersInput
from shards.command.progress import Progress
from shards.commit import write_atomically
from shards.contact_sheet import contact_sheet
from shards.errors import printable
from shards.in_order import in_order
from shards.loader import BatchLoader
from shards.reader import Component, ViewSet
from shards.runs import weights_of
from shards.views.pair import CAPTIONS

SHOWN = 12


def show_nearest(config: EvaluateConfig) -> None:
    """RUN/query-TEXT.png shows the nearest images of --split in the cache, and each is a line: cosine, key, caption."""
    assert config.run is not None and config.query is not None
    run = Path(config.run)
    check_run(run)
    student = load_student(run, config.device_name, config.precision)
    evaluation = Evaluation(config, run, student, weights_of(run), run)
    viewset = ViewSet(evaluation.stored.viewset(config.split).folder)
    if isinstance(student.inputs, TowersInput):
        text = tower(evaluation, "text", "--query")
        asked, images = sentence_rows(text, HEAD, [config.query])[0], (rows for rows, *_ in of_rows(evaluation)[1])
    else:
        embedder = Embedder.of(evaluation, "--query")
        check_fits(viewset, embedder.image.inputs)
        samples, size = viewset.usable[: config.limit], evaluation.batch_size
        loader = BatchLoader([Component(viewset)], in_order(samples, size), size, num_threads=evaluation.num_threads)
        asked, images = embedder.sentences([config.query])[0], (embedder.images(batch.fields) for batch in loader)
    cosines, places = _nearest(
        asked, images, f"{run.name}: images of {config.split}", len(viewset.usable[: config.limit])
    )
    captions = dict[tuple[int, int], list[str]]()
    for cosine, sample in zip(cosines, viewset.usable[places].tolist(), strict=True):
        key, facts = viewset.plan.keys[sample], viewset.storage.facts(0, sample)
        texts = facts.get(CAPTIONS, [])
        captions[0, sample] = [f"{cosine:.4f} {key}", *texts[:1]]
        print(printable(f"{cosine:7.4f}  {key}  {' | '.join(texts)}".rstrip()))
    sheet = contact_sheet(viewset, captions)
    assert sheet is not None
    path = run / f"query-{re.sub(r'[^0-9A-Za-z]+', '-', config.query).strip('-')[:60] or 'text'}.png"
    content = io.BytesIO()
    sheet.save(content, "PNG")
    write_atomically(path, content.getvalue())
    print(f"evaluate: {config.query!r}: the nearest of {len(viewset.usable[: config.limit]):,} images: {path}")


def _nearest(
    asked: Float[Tensor, " width"], images: Iterator[Float[Tensor, "batch width"]], label: str, total: int
) -> tuple[list[float], list[int]]:
    """The largest cosines of `images` with `asked`, and the places of these, the nearest first."""
    kept, places, seen = asked.new_empty(0), torch.empty(0, dtype=torch.int64), 0
    with Progress(label, total) as progress:
        for rows in images:
            kept, best = torch.cat([kept, rows @ asked]).topk(min(SHOWN, len(kept) + len(rows)))
            places = torch.cat([places, torch.arange(seen, seen + len(rows))])[best.cpu()]
            seen += len(rows)
            progress.advance(len(rows))
    return kept.tolist(), places.tolist()
