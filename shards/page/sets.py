"""Sets: view sets and target sets as the page shows them, read from their documents alone."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from shards.cache import ListedViewSet
from shards.command.progress import counted, human_bytes
from shards.documents import TargetSetManifest
from shards.errors import TeacherShardsError, one_line
from shards.identity import identity_hash, sha256_of
from shards.listing import DescribedSet, describe, finishing_command, stated_error, targetset_facts, viewset_facts
from shards.mirror import origin_of

WHOLE, HALF, DAMAGED = "whole", "half written", "damaged"
MOST_TEXT = 400
"""Characters of a value that come from a cache or a run: one page holds thousands of them."""


@dataclass(frozen=True)
class SetCard:
    """One view set or target set."""

    described: DescribedSet
    anchor: str
    tone: str
    """WHOLE, HALF or DAMAGED."""
    state: str
    """One line: for a damaged set the reason, for a half-written one how to finish it."""
    facts: tuple[tuple[str, str], ...]
    """(name, value) lines: identity, counts, codec."""
    identity: str | None
    """The hash that runs know it by; None while there is no manifest."""
    targetsets: list["SetCard"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's."""
        return self.described.folder.name

    @property
    def size(self) -> str:
        """Its bytes, without those of the target sets of a view set."""
        return human_bytes(self.described.num_bytes)

    @property
    def samples(self) -> str:
        """Samples, or '?' where its documents cannot say."""
        return "?" if self.described.num_samples is None else f"{self.described.num_samples:,}"

    @property
    def removal(self) -> str:
        """The command that removes it, as a shell takes it; of a set in a bucket, where it lies."""
        folder = self.described.folder
        if (mirror := origin_of(folder)) is not None:
            there = f"{mirror.store.url}/{folder.absolute().relative_to(mirror.root).as_posix()}"
            return f"remove {there} with your store's own command"
        return f"python -m shards remove {shlex.quote(str(folder))}"

    @property
    def codec_error(self) -> str:
        """What its codec lost, as its manifest says; empty for a view set."""
        manifest = self.described.manifest
        return short(stated_error(manifest).replace("_", " ")) if isinstance(manifest, TargetSetManifest) else ""


def cards_of(listed: ListedViewSet) -> SetCard:
    """The card of a view set, with those of its target sets."""
    viewset = describe(listed.folder)
    targetsets = [_card(describe(folder, viewset)) for folder in listed.listed_folders]
    return _card(viewset, targetsets)


def short(value: object, most: int = MOST_TEXT) -> str:
    """`value` on one line, its end replaced by an ellipsis where it is longer than `most` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def anchor_of(*parts: object) -> str:
    """An id of the page that no character of a key, name or path can spoil."""
    # a name on the disk, or a text from JSON, may hold what UTF-8 has no bytes for
    return "i" + sha256_of("\0".join(map(str, parts)).encode(errors="surrogatepass"))[:12]


def _card(described: DescribedSet, targetsets: list[SetCard] | None = None) -> SetCard:
    tone, state = WHOLE, described.state
    if described.damage:
        tone, state = DAMAGED, described.damage
    elif described.manifest is None:
        done = described.state.removeprefix(f"{HALF}, ")
        tone, state = HALF, f"{done}; finish it: {finishing_command(described.folder)}"
    identity = identity_hash(described.manifest.identity) if described.manifest else None
    facts = tuple((short(name), short(value)) for name, value in _facts(described, targetsets is not None))
    anchor = anchor_of(described.folder)
    return SetCard(described, anchor, tone, short(one_line(ValueError(state))), facts, identity, targetsets or [])


def _facts(described: DescribedSet, is_viewset: bool) -> Iterator[tuple[str, str]]:
    try:
        yield from viewset_facts(described) if is_viewset else targetset_facts(described)
    except TeacherShardsError as error:
        yield "cannot be read", one_line(error)


def totals(cards: list[SetCard]) -> str:
    """How many sets there are, and their bytes, in words."""
    everything = [card for viewset in cards for card in (viewset, *viewset.targetsets)]
    size = human_bytes(sum(card.described.num_bytes for card in everything))
    targetsets = sum(len(viewset.targetsets) for viewset in cards)
    return f"{counted(len(cards), 'view set')}, {counted(targetsets, 'target set')}, {size}"
