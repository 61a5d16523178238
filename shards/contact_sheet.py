"""Contact sheet: stored views as one picture, with what is known of each beneath it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards.commit import write_atomically
from shards.decode import codec_of, read_decoded, spread
from shards.errors import BadInput
from shards.reader import TargetSet, ViewSet, check_pair, logit_names

CELL = 224
"""Pixels a side of a picture; smaller views are enlarged by whole pixels, larger ones reduced."""
_GAP, _LINE, _FONT_SIZE, _MAX_COLUMNS, _NUM_CLASSES = 12, 17, 14, 6, 3


def contact_sheet(viewset: ViewSet, targetset: TargetSet | None, num: int) -> Image.Image:
    """`num` views, spread evenly over the samples, a sample's views side by side; with the teacher's word on each."""
    if targetset is not None:
        check_pair(viewset, targetset)
    num_views = min(viewset.num_views, targetset.num_views if targetset else viewset.num_views, num)
    samples = viewset.usable[spread(len(viewset.usable), -(-num // num_views))]
    cells = [(view, int(sample)) for sample in samples for view in range(num_views)][:num]
    said = teacher_lines(viewset, targetset, samples, num_views) if targetset else {}
    font = ImageFont.load_default(_FONT_SIZE)
    captions = [_caption(viewset, *cell) + said.get(cell, []) for cell in cells]
    columns = num_views * max(1, min(_MAX_COLUMNS, len(cells)) // num_views)
    height = CELL + _LINE * max(len(caption) for caption in captions) + _GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (CELL + _GAP) + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for position, (cell, caption) in enumerate(zip(cells, captions, strict=True)):
        left, top = _GAP + position % columns * (CELL + _GAP), _GAP + position // columns * height
        sheet.paste(_picture(viewset, *cell), (left, top))
        for number, line in enumerate(caption):
            draw.text((left, top + CELL + 2 + number * _LINE), _fitted(line, font), "black", font)
    return sheet


def _picture(viewset: ViewSet, view: int, sample: int) -> Image.Image:
    picture = viewset.codec.picture(viewset.row(view, sample))
    times = max(1, CELL // max(picture.size))
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return picture


def _caption(viewset: ViewSet, view: int, sample: int) -> list[str]:
    """Key; view, and what its facts say; label."""
    facts, row = viewset.storage.facts(view, sample), viewset.row(view, sample)
    first, *further = viewset.codec.caption(row, facts, viewset.folder) or [""]
    lines = [viewset.plan.keys[sample], f"view {view}, {first}".rstrip(", "), *further]
    if "label" in facts:
        lines.append(f"label: {_class_name(viewset.class_names, facts['label'])}")
    return lines


def _class_name(names: Sequence[str] | None, label: int) -> str:
    """A class by its name, or by its number where it has none."""
    return names[label] if names is not None and 0 <= label < len(names) else f"class {label}"


def teacher_lines(
    viewset: ViewSet, targetset: TargetSet, samples: np.ndarray, num_views: int
) -> dict[tuple[int, int], list[str]]:
    """What the teacher says of each (view, sample)."""
    codec, target = codec_of(targetset), targetset.manifest.target
    said: dict[tuple[int, int], list[str]] = {}
    for view in range(num_views):
        lines = _said(logit_names(viewset, targetset), target, read_decoded(targetset, codec, view, samples))
        said |= {(view, sample): line for sample, line in zip(samples.tolist(), lines, strict=True)}
    return said


def _said(names: Sequence[str] | None, target: str, decoded: Any) -> list[list[str]]:
    """For each row the teacher's most likely classes, or, of targets without classes, the norm."""
    from shards.codecs.features import Features
    from shards.codecs.topk import TopKProbabilities

    if isinstance(decoded, TopKProbabilities):
        probabilities, classes = decoded.log_probabilities.exp(), decoded.classes
    elif target == "logits":
        probabilities, classes = decoded.softmax(-1).sort(-1, descending=True)
    else:
        rows = decoded.rows if isinstance(decoded, Features) else decoded
        return [[f"{target}: norm {norm:.3g}"] for norm in rows.flatten(1).norm(dim=1).tolist()]
    likely = zip(probabilities[:, :_NUM_CLASSES].tolist(), classes[:, :_NUM_CLASSES].tolist(), strict=True)
    return [
        [f"teacher: {_class_name(names, label)} {share:.1%}" for share, label in zip(*best, strict=True)]
        for best in likely
    ]


def _fitted(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`line`, or its beginning and end where it is wider than a picture: keys differ at their ends."""
    kept, shown = len(line), line
    while font.getlength(shown) > CELL:
        kept -= 1
        shown = f"{line[: kept - kept // 2]}...{line[len(line) - kept // 2 :]}"
    return shown


def image_form(output: str) -> str:
    """What Pillow calls the kind of image that the file's ending stands for; BadInput for other endings."""
    form = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(Path(output).suffix.lower())
    if form is None:
        raise BadInput(f"--output {output}: expected a file ending in .png or .jpg")
    return form


def save(sheet: Image.Image, output: Path, form: str) -> None:
    """`output` holds the whole of `sheet`, as `image_form` says."""
    buffer = io.BytesIO()
    sheet.save(buffer, form)
    write_atomically(output, buffer.getvalue())
