"""Alternatives: what else the cache has to train on, and what extract could make of its views."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.data import CacheData
from extract.bill.alternatives import Alternative
from extract.bill.codebooks import Calibration
from extract.bill.further import ViewSeconds
from shards.bill.arithmetic import Bill
from shards.bill.show import views_to_show
from shards.cache import ListedViewSet
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.documents import TargetSetManifest
from shards.listing import has_codebooks


@dataclass(frozen=True)
class Making:
    """What `extract` takes for a sample of what a training is offered."""

    forward: float
    """Seconds of the teachers."""
    views: ViewSeconds
    overlap: bool
    """Whether views are made and read while the teachers compute, on another device."""

    def statistics(self, of: Calibration) -> float:
        """What a codec's statistics take before the first shard."""
        return (of.samples + of.unseen) * (self.views.read + self.forward) + of.seconds

    def seconds(self, forwards: int, made: int) -> float | None:
        """So many forwards of a sample, on as many of its views, which are `made` first or read; None: not known."""
        if made and self.views.make is None:
            return None
        cores = made * (self.views.make or 0.0) + (forwards - made) * self.views.read
        return max(cores, forwards * self.forward) if self.overlap else cores + forwards * self.forward


COLUMNS = ("target", "codec", "tokens", "views", "bytes", "hours", "cosine", "from")
CACHE, EXTRACT = "the cache", "extract"


def alternatives(
    data: CacheData, bill: Bill, epochs: float, read_rate: float, offers: Sequence[Alternative], making: Making
) -> list[tuple[str, ...]]:
    """A table of the first view set, printed; its rows. What is trained on has a star.

    Bytes are those of a target set's views; hours are those of this training from it, and of the `making` where it is
    to be made, views included; views that can have no further ones are offered none.
    """
    component = data.training.components[0]
    viewset, own = component.viewset, {each.folder.name for each in component.targetsets}
    whole = [each for each in ListedViewSet(viewset.folder).targetsets if each.whole]
    if not whole:
        return []
    usable, chosen = len(viewset.usable), sum(_view_bytes(each.manifest) for each in component.targetsets)

    def hours(view_bytes: float, forwards: int, made: int = 0, once: float = 0.0) -> str:
        """Of the training with such rows in the place of the chosen, once so many views of them are there."""
        making_them = making.seconds(forwards, made)
        if making_them is None:
            return "-"
        disk = max(0.0, bill.lanes.get("disk", 0.0) + (view_bytes - chosen) * epochs / read_rate)
        others = [seconds for lane, seconds in bill.lanes.items() if lane != "disk"]
        return f"{(bill.once + max([*others, disk]) + making_them * usable + once) / 3600:,.3g}"

    rows, known = list[tuple[str, ...]](), set()
    for each in sorted(whole, key=lambda each: each.folder.name not in own):
        manifest, star = each.manifest, " *" if each.folder.name in own else ""
        known.add((manifest.teacher, manifest.target, manifest.codec, manifest.keep_tokens))
        size = sum(record.size for record in manifest.files.values())
        lasts = f"{bill.hours:,.3g}" if star else hours(_view_bytes(manifest), 0)
        what = (f"{manifest.target}{star}", manifest.codec, _tokens(manifest.keep_tokens), str(manifest.num_views))
        rows.append((*what, human_bytes(size), lasts, _error(manifest), CACHE))
    first = component.targetsets[0].manifest if component.targetsets else None
    views = component.num_views
    for offer in offers:
        if first and (first.teacher, offer.target, offer.codec, offer.keep_tokens) not in known:
            lasts = hours(offer.view_bytes, views, once=making.statistics(offer.calibration))
            rows.append((*_offered(offer, views), lasts, offer.error, EXTRACT))
    unknown = ""
    for offer in [offer for offer in offers if offer.chosen and first][:1]:
        for number in views_to_show(views):
            if number <= views:
                rows.append((*_offered(offer, number), hours(offer.view_bytes, 0), offer.error, CACHE))
            elif not making.views.all_alike:
                further, unknown = number - views, making.views.unknown
                rows.append((*_offered(offer, number), hours(offer.view_bytes, further, further), offer.error, EXTRACT))
    print_table(COLUMNS, rows, COLUMNS[2:7])
    if unknown:
        print(f"distill: plan: hours of more views are not known: {unknown}; python -m extract ... --plan says them")
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
    if name != "cosine_mean":
        return f"{name} {value:.3g}"
    learnt = has_codebooks(manifest) and manifest.unseen is None  # others come out no better
    return f"{'<=' if learnt else ''}{value:.5f}"
