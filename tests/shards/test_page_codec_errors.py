"""The worst codec errors on the page: of samples all over a set, beside the target set that stores them whole."""

from pathlib import Path

import caches
from trained_runs import Parsed, write_page

from shards.cache import ListedTargetSet, ListedViewSet
from shards.decode import codec_of, read_decoded
from shards.page.codec_errors import worst_codec_errors
from shards.reader import TargetSet, ViewSet


def test_the_worst_probability_of_a_top_k(full: Path) -> None:
    viewset = ViewSet(caches.viewset_of(full))
    topk, exact = (caches.targetset_of(full, name) for name in ("topk3", "float32"))
    told, named = compared(viewset, topk, ListedViewSet(viewset.folder).targetsets)
    opened = [TargetSet(each) for each in (exact, topk)]
    whole, stored = (read_decoded(each, codec_of(each), 0, viewset.usable) for each in opened)
    differences = (stored.log_probabilities.exp() - whole.softmax(-1).gather(1, stored.classes)).abs().amax(1)
    worst = f"largest difference of a probability {differences.max():.4g}"
    assert told.startswith(f"worst codec error of 40 samples in 3 of 3 shards: {worst} (beside {exact.name}, median ")
    assert named.startswith(f"{viewset.plan.keys[int(differences.argmax())]} ({differences.max():.4g}), ")
    assert worst in Parsed(write_page(full, "--num", "2")).text


def test_without_one_that_stores_all_it_says_so(full: Path) -> None:
    viewset, topk = ViewSet(caches.viewset_of(full)), caches.targetset_of(full, "topk3")
    pooled = caches.targetset_of(full, "pooled")  # another target
    told, named = compared(viewset, topk, [ListedTargetSet(topk), ListedTargetSet(pooled)])
    assert told.startswith("codec error as extract measured it, as no target set has the same in float32: ")
    assert told.endswith(", on the first samples") and named == ""


def compared(viewset: ViewSet, targetset: Path, beside: list[ListedTargetSet]) -> tuple[str, str]:
    (told,) = worst_codec_errors(viewset, TargetSet(targetset), beside, viewset.usable)
    return told
