"""Alternatives: what else the cache has to train on, and what extract could make of its views."""

from collections.abc import Sequence

from distill.data import CacheData
from extract.bill.alternatives import Alternative
from shards.bill.arithmetic import Bill
from shards.bill.show import views_to_show
from shards.cache import ListedViewSet
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.documents import TargetSetManifest

COLUMNS = ("target", "codec", "tokens", "views", "bytes", "hours", "cosine", "from")
CACHE, EXTRACT = "the cache", "extract"


def alternatives(
    data: CacheData, bill: Bill, epochs: float, read_rate: float, offers: Sequence[Alternative], a_forward: float
) -> list[tuple[str, ...]]:
    """A table of the first view set, printed; its rows. What is trained on has a star.

    Bytes are those of a target set's views; hours are those of this training from it, and of the teacher's forwards
    (`a_forward`, seconds a sample) where it is to be made.
    """
    component = data.training.components[0]
    viewset, own = component.viewset, {each.folder.name for each in component.targetsets}
    whole = [each for each in ListedViewSet(viewset.folder).targetsets if each.whole]
    if not whole:
        return []
    usable, chosen = len(viewset.usable), sum(_view_bytes(each.manifest) for each in component.targetsets)

    def hours(view_bytes: float, to_make: int) -> float:
        """Of the training with such rows in the place of the chosen, once so many views of them are made."""
        disk = max(0.0, bill.lanes.get("disk", 0.0) + (view_bytes - chosen) * epochs / read_rate)
        others = [seconds for lane, seconds in bill.lanes.items() if lane != "disk"]
        return (bill.once + max([*others, disk]) + to_make * usable * a_forward) / 3600

    rows, known = list[tuple[str, ...]](), set()
    for each in sorted(whole, key=lambda each: each.folder.name not in own):
        manifest, star = each.manifest, " *" if each.folder.name in own else ""
        known.add((manifest.teacher, manifest.target, manifest.codec, manifest.keep_tokens))
        size = sum(record.size for record in manifest.files.values())
        lasts = bill.hours if star else hours(_view_bytes(manifest), 0)
        what = (f"{manifest.target}{star}", manifest.codec, _tokens(manifest.keep_tokens), str(manifest.num_views))
        rows.append((*what, human_bytes(size), f"{lasts:,.3g}", _error(manifest), CACHE))
    first = component.targetsets[0].manifest if component.targetsets else None
    views = component.num_views
    for offer in offers:
        if first and (first.teacher, offer.target, offer.codec, offer.keep_tokens) not in known:
            lasts = hours(offer.view_bytes, views)
            rows.append((*_offered(offer, views), f"{lasts:,.3g}", offer.error, EXTRACT))
    for offer in [offer for offer in offers if offer.chosen and first][:1]:
        for number in views_to_show(views):
            lasts, there = hours(offer.view_bytes, max(0, number - views)), number <= views
            rows.append((*_offered(offer, number), f"{lasts:,.3g}", offer.error, CACHE if there else EXTRACT))
    print_table(COLUMNS, rows, COLUMNS[2:7])
    return rows


def _view_bytes(manifest: TargetSetManifest) -> float:
    return sum(record.size for record in manifest.files.values()) / manifest.num_views


def _offered(offer: Alternative, views: int) -> tuple[str, ...]:
    tokens = _tokens(offer.keep_tokens)
    return offer.target, offer.codec, tokens, str(views), human_bytes(offer.view_bytes * views)


def _tokens(kept: int | None) -> str:
    return "all" if kept is None else str(kept)


def _error(manifest: TargetSetManifest) -> str:
    name, value = next(iter(manifest.codec_error.items()), ("-", 0.0))
    return f"{value:.5f}" if name == "cosine_mean" else f"{name} {value:.3g}"
