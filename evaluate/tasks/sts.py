"""sts: how well cosines of frozen sentence embeddings order pairs as people do: semantic textual similarity.

Reimers & Gurevych 2019, "Sentence-BERT" (arXiv:1908.10084), section 4.1: Spearman's correlation between the cosine of
the pooled embeddings of two sentences and their score, without any training.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from evaluate.evaluation import Evaluation
from evaluate.features import pooled_features
from evaluate.metrics import METRICS
from evaluate.text_tuning import for_texts
from extract.sources import open_source
from shards.errors import BadInput

if TYPE_CHECKING:
    from extract.sources.base import Source

TAKES = "text"
STS_BENCHMARK = "glue:stsb"


def measure(evaluation: Evaluation, settings: None) -> dict[str, Any]:
    """`spearman` and `pearson` on --data, else on STS-B's split."""
    config = evaluation.config
    for_texts(evaluation, "sts")
    data = config.data or STS_BENCHMARK
    source = open_source(data, config.split, config.data_dir, config.limit)
    # classes that are whole numbers are scores too, as of 0 to 5; entailment or not_entailment has no order
    scored = all(name.isdecimal() for name in source.class_names or ())
    if source.has != {"texts"} or not scored or len(source.read(0).texts) != 2:
        raise BadInput(
            f"--data {data}: expected pairs of sentences with scores; give {STS_BENCHMARK} or sentences:FILE"
        )
    views = [evaluation.views_of(_one_side(source, side), data) for side in (0, 1)]
    (first, scores), (second, _) = (pooled_features(evaluation, each) for each in views)
    cosines = F.cosine_similarity(first, second, dim=1).numpy()
    metrics = {name: round(METRICS[name](scores.numpy(), cosines), 6) for name in ("spearman", "pearson")}
    return {**metrics, **views[0].facts()}


def _one_side(source: "Source", side: int) -> "Source":
    """The first or the second sentences of pairs, with the pairs' scores."""

    def fetch(index: int) -> tuple[Any, ...]:
        _, score, texts = source.fetch(index)
        return None, score, (texts[side],)

    return replace(source, fetch=fetch)
