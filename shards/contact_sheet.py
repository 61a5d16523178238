"""Contact sheet: stored views as one picture, with what is known of each beneath it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards.class_names import class_name, logit_names
from shards.decode import codec_of, read_decoded, spread
from shards.errors import BadInput
from shards.reader import TargetSet, ViewSet, check_pair

Cell = tuple[int, int]
"""View and sample."""
CELL = 224
"""Pixels a side of a picture; smaller views are enlarged by whole pixels, larger ones reduced."""
_GAP, _LINE, _FONT_SIZE, _MAX_COLUMNS, _NUM_CLASSES = 12, 17, 14, 6, 3


def captions_of(viewset: ViewSet, targetset: TargetSet | None, num: int) -> dict[Cell, list[str]]:
    """What is known of `num` views, spread evenly over the samples, with the teacher's output: some lines a view."""
    if targetset is not None:
        check_pair(viewset, targetset)
    num_views = min(viewset.num_views, targetset.num_views if targetset else viewset.num_views, num)
    samples = viewset.usable[spread(len(viewset.usable), -(-num // num_views))]
    cells = [(view, int(sample)) for sample in samples for view in range(num_views)][:num]
    of_teacher = teacher_lines(viewset, targetset, samples, num_views) if targetset else {}
    return {cell: caption_of(viewset, *cell) + of_teacher.get(cell, []) for cell in cells}


def contact_sheet(viewset: ViewSet, captions: dict[Cell, list[str]]) -> Image.Image | None:
    """The views of `captions`, a sample's side by side, each with its caption; None where views are to be read."""
    pictures = {cell: viewset.codec.picture(viewset.row(*cell)) for cell in captions}
    num_views = len({view for view, _ in captions})
    font = ImageFont.load_default(_FONT_SIZE)
    columns = num_views * max(1, min(_MAX_COLUMNS, len(captions)) // num_views)
    height = CELL + _LINE * max(map(len, captions.values())) + _GAP
    rows = -(-len(captions) // columns)
    sheet = Image.new("RGB", (columns * (CELL + _GAP) + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for position, (cell, caption) in enumerate(captions.items()):
        if (picture := pictures[cell]) is None:
            return None
        left, top = _GAP + position % columns * (CELL + _GAP), _GAP + position // columns * height
        sheet.paste(_resized(picture), (left, top))
        for number, line in enumerate(caption):
            draw.text((left, top + CELL + 2 + number * _LINE), _fitted(line, font), "black", font)
    return sheet


def _resized(picture: Image.Image) -> Image.Image:
    times = max(1, CELL // max(picture.size))
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return picture


def caption_of(viewset: ViewSet, view: int, sample: int) -> list[str]:
    """Key; view, and what its facts say; label."""
    facts, row = viewset.storage.facts(view, sample), viewset.row(view, sample)
    first, *further = viewset.codec.caption(row, facts, viewset.folder) or [""]
    lines = [viewset.plan.keys[sample], f"view {view}, {first}".rstrip(", "), *further]
    if "label" in facts:
        lines.append(f"label: {class_name(viewset.class_names, facts['label'])}")
    return lines


def teacher_lines(
    viewset: ViewSet, targetset: TargetSet, samples: np.ndarray, num_views: int
) -> dict[tuple[int, int], list[str]]:
    """For each (view, sample) the teacher's most likely classes, or, of targets without classes, the norm."""
    from shards.codecs.features import Features

    codec, target, names = codec_of(targetset), targetset.manifest.target, logit_names(viewset, targetset)
    lines: dict[tuple[int, int], list[str]] = {}
    for view in range(num_views):
        decoded = read_decoded(targetset, codec, view, samples)
        of_view = output_lines(decoded.rows if isinstance(decoded, Features) else decoded, target, names)
        lines |= {(view, sample): line for sample, line in zip(samples.tolist(), of_view, strict=True)}
    return lines


def output_lines(decoded: Any, target: str, names: Sequence[str] | None, who: str = "teacher") -> list[list[str]]:
    """Of each row, what `who` says: its likeliest classes, or of targets without classes the norm."""
    from shards.codecs.distribution import Distribution

    if isinstance(decoded, Distribution):
        probabilities, classes = decoded.log_probabilities.exp(), decoded.classes
    elif target == "logits":
        probabilities, classes = decoded.softmax(-1).sort(-1, descending=True)
    else:
        return [[f"{target}: norm {norm:.3g}"] for norm in decoded.flatten(1).norm(dim=1).tolist()]
    if probabilities.dim() > 2:
        shares = probabilities[..., 0].mean(1).tolist()
        return [[f"{target}: {share:.1%} on a token's first class"] for share in shares]
    likely = zip(probabilities[:, :_NUM_CLASSES].tolist(), classes[:, :_NUM_CLASSES].tolist(), strict=True)
    return [
        [f"{who}: {class_name(names, label)} {share:.1%}" for share, label in zip(*best, strict=True)]
        for best in likely
    ]


def _fitted(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`line`, or its beginning and end where it is wider than a picture: keys differ at their ends."""
    kept, shown = len(line), line
    while font.getlength(shown) > CELL:
        kept -= 1
        shown = f"{line[: kept - kept // 2]}...{line[len(line) - kept // 2 :]}"
    return shown


def image_form(output: str | None) -> str | None:
    """What Pillow calls an image of the file's ending, None without a file; BadInput for other endings."""
    if output is None:
        return None
    form = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(Path(output).suffix.lower())
    if form is None:
        raise BadInput(f"--output {output}: expected a file ending in .png or .jpg")
    return form
