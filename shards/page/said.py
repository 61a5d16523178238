"""Said: what a teacher says of a few views, in a form that a person can look at.

Classes by name; dense tokens as colours, their first three principal components over the views that are shown (as
Oquab et al. 2023, arXiv:2304.07193, section 7.5, show features); tokens with the teacher's guesses; of one vector its
norm and the nearest other view.
"""

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from shards.class_names import class_name, logit_names
from shards.codecs import LOGITS
from shards.contact_sheet import Cell
from shards.decode import codec_of, read_decoded
from shards.page.sets import short
from shards.reader import TargetSet, ViewSet
from shards.views.base import Row

NUM_CLASSES, MOST_GUESSES, MOST_CLASS_NAME = 3, 16, 60
_MOST_DECODED = 128 << 20
"""Bytes of rows that are decoded for one view of a sheet; a float32 takes at most 8 times what is stored of it."""
_FITTED_TOKENS = 1500
"""Tokens that the principal components are fitted on."""
_MOST_EXTRA = 16
"""Class and register tokens before an image's, at most."""


@dataclass(frozen=True)
class Said:
    """What is shown of one teacher's output for one view."""

    line: str = ""
    classes: list[tuple[str, float]] = field(default_factory=list)
    """(name, probability), the likeliest first."""
    picture: str | None = None
    """Dense tokens as colours: a data URI."""
    is_map: bool = False
    """Whether the tokens lie in a square, as an image's; else in a line."""
    guesses: list[tuple[str, str, float]] = field(default_factory=list)
    """(token, the teacher's likeliest, its probability)."""
    first: int | None = None
    """The likeliest class, where it is one of those that labels are of."""


def said_of(
    viewset: ViewSet, targetset: TargetSet, rows: dict[Cell, Row], words_of: Callable[[list[int]], list[str]] | None
) -> dict[Cell, Said]:
    """For each of the cells of `rows` that the target set has, as many as may be decoded, what its teacher says."""
    codec, most = codec_of(targetset), max(1, _MOST_DECODED // (8 * targetset.bytes_per_sample))
    names, target = logit_names(viewset, targetset), targetset.manifest.target
    likeliest: dict[Cell, tuple[Any, Any]] = {}
    outputs: dict[Cell, tuple[Any, np.ndarray | None]] = {}
    for view in range(min(viewset.num_views, targetset.num_views)):
        samples = sorted(sample for of_view, sample in rows if of_view == view)[:most]
        if not samples:
            continue
        decoded = read_decoded(targetset, codec, view, np.array(samples, np.int64))
        output, positions = _parts(decoded)
        best = likely(output, target)
        for number, sample in enumerate(samples):
            if best is not None:
                likeliest[view, sample] = best[0][number], best[1][number]
            else:
                outputs[view, sample] = output[number], None if positions is None else positions[number].numpy()
    if likeliest or not outputs:
        said = {cell: _classes(rows[cell], *best, names, words_of) for cell, best in likeliest.items()}
        if not labels_are_of(viewset, targetset):
            return said
        return {cell: replace(said[cell], first=int(classes[0])) for cell, (_, classes) in likeliest.items()}
    if next(iter(outputs.values()))[0].dim() == 1:
        return _vectors(viewset, {cell: output.float().numpy() for cell, (output, _) in outputs.items()})
    contents = {cell: _content(rows[cell], *output) for cell, output in outputs.items()}
    return _dense(contents, targetset.row_shape[0], _sees_pictures(viewset, targetset, next(iter(rows.values()))))


def labels_are_of(viewset: ViewSet, targetset: TargetSet) -> bool:
    """Whether the samples have labels, and the target set's classes are theirs."""
    names, are_classes = targetset.manifest.class_names, len(targetset.row_shape) == 1
    return (
        viewset.labelled
        and names in (None, viewset.class_names)
        and targetset.manifest.target == LOGITS[0]
        and are_classes
    )


def _sees_pictures(viewset: ViewSet, targetset: TargetSet, row: Row) -> bool:
    """Whether the tokens are of a picture: the view is one, and the teacher was fed its pixels and not its captions."""
    fed = targetset.identity["teacher"].get("preprocessing")
    return viewset.codec.picture(row) is not None and isinstance(fed, dict) and "image_size" in fed


def _parts(decoded: Any) -> tuple[Any, Any]:
    """The rows of a batch, a tensor or a distribution, and the positions of kept tokens or None."""
    from shards.codecs.features import Features

    return (decoded.rows, decoded.positions) if isinstance(decoded, Features) else (decoded, None)


def likely(output: Any, target: str) -> tuple[Any, Any] | None:
    """Probabilities and classes (batch, k) or (batch, tokens, k), the likeliest first; None of what is no logits."""
    if hasattr(output, "log_probabilities"):
        return output.log_probabilities.exp(), output.classes
    if not target.endswith("logits"):
        return None
    best = output.float().softmax(-1).topk(min(NUM_CLASSES, output.shape[-1]), -1)
    return best.values, best.indices


def _classes(
    row: Row, shares: Any, classes: Any, names: list[str] | None, words_of: Callable[[list[int]], list[str]] | None
) -> Said:
    if shares.dim() == 1:
        best = zip(classes[:NUM_CLASSES].tolist(), shares[:NUM_CLASSES].tolist(), strict=True)
        return Said(classes=[(short(class_name(names, label), MOST_CLASS_NAME), share) for label, share in best])
    if words_of is None or "tokens" not in row:
        return Said(f"{shares[..., 0].mean().item():.1%} on a token's first class")
    # kept tokens' rows are shown without the positions that they had, and so only where all are kept
    length = content_length(row, len(shares))
    if len(shares) != len(row["tokens"]):
        return Said("likeliest: " + " ".join(words_of(classes[:MOST_GUESSES, 0].tolist())))
    shown = slice(0, min(length, MOST_GUESSES))
    tokens, guesses = words_of(row["tokens"][shown].tolist()), words_of(classes[shown, 0].tolist())
    return Said(guesses=list(zip(tokens, guesses, shares[shown, 0].tolist(), strict=True)))


def content_length(row: Row, total: int) -> int:
    """How many of a view's `total` tokens are no padding; all of them where its fields tell of none."""
    length = row.get("length")
    return total if length is None or np.ndim(length) else min(total, int(length))


def _vectors(viewset: ViewSet, vectors: dict[Cell, np.ndarray]) -> dict[Cell, Said]:
    """Of each its norm, and the other sample of those that are shown which is nearest to it."""
    cells, rows = list(vectors), np.stack(list(vectors.values())).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1)
    unit = rows / np.maximum(norms, 1e-12)[:, None]
    cosines = np.nan_to_num(unit @ unit.T, nan=-2.0)
    samples = np.array([sample for _, sample in cells])
    cosines[samples[:, None] == samples] = -2.0
    said = {}
    for number, cell in enumerate(cells):
        nearest = int(cosines[number].argmax())
        line = f"norm {norms[number]:.3g}"
        if cosines[number, nearest] > -2.0:
            line += f", nearest {viewset.plan.keys[cells[nearest][1]]} (cosine {cosines[number, nearest]:.3f})"
        said[cell] = Said(short(line))
    return said


def _content(row: Row, output: Any, positions: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The tokens (content, dim) of one sample that are no padding, and where they stand."""
    tokens = output.float().flatten(1).numpy()
    places = np.arange(len(tokens)) if positions is None else positions
    kept = places < content_length(row, 1 << 30)
    return tokens[kept], places[kept]


def _dense(tokens: dict[Cell, tuple[np.ndarray, np.ndarray]], num_tokens: int, are_pictures: bool) -> dict[Cell, Said]:
    """Tokens as colours: a picture's lie in a square behind those of no place in it, a text's in a line."""
    everything = np.concatenate([rows for rows, _ in tokens.values()])
    finite = everything[np.isfinite(everything).all(1)]
    if len(finite) < 2:
        return {cell: Said("no finite tokens to show") for cell in tokens}
    fitted = finite[:: -(-len(finite) // _FITTED_TOKENS)]
    centre = fitted.mean(0)
    axes = np.linalg.svd(fitted - centre, full_matrices=False)[2][:3]
    low, high = np.percentile((fitted - centre) @ axes.T, [2, 98], axis=0)
    squares = [
        n for n in range(_MOST_EXTRA) if num_tokens - n >= 4 and math.isqrt(num_tokens - n) ** 2 == num_tokens - n
    ]
    is_map = are_pictures and bool(squares)
    extra = squares[0] if is_map else 0
    drawn = f", drawn without the first {extra}" if extra else ""
    said = {}
    for cell, (rows, places) in tokens.items():
        scaled = ((np.nan_to_num(rows) - centre) @ axes.T - low) / np.maximum(high - low, 1e-9)
        colours = np.zeros((num_tokens, 4), np.uint8)
        colours[places, : scaled.shape[1]] = (scaled.clip(0, 1) * 255).astype(np.uint8)
        colours[places, 3] = 255
        norm = float(np.linalg.norm(rows, axis=1).mean()) if len(rows) else 0.0
        line = f"{len(rows):,} tokens, mean norm {norm:.3g}{drawn}"
        said[cell] = Said(line, [], _png(colours, extra, is_map), is_map)
    return said


def _png(colours: np.ndarray, extra: int, is_map: bool) -> str:
    """Tokens' colours (tokens, 4) as a small PNG: a square without the `extra` first ones, or a line."""
    side = math.isqrt(len(colours) - extra)
    pixels = colours[extra:].reshape(side, side, 4) if is_map else colours[None]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
