"""Rendering: views without pixels, rendered from each sample's stored image, against decoding crops that are stored.

Compared a core, all in memory: rendering views of 224 pixels from an image whose short side is 320 (decode, cut,
resize, crc32c), one or four of a decode (`distill --read views_a_batch=4`), by each `interpolation` of --view;
decoding a stored JPEG crop of 224; and decoding, cutting and resizing the full-size photo, as training pipelines do.
Limit: the whole image is decoded, which has 2.7 times as many pixels as a crop, and resized besides.
The bytes of 300 such views of ImageNet and their top 16 logits are counted by the functions that write them.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg
from msgspec import structs

from benchmarks.measure import Figure, Report, Spread, alternate, per_unit, run, settings_here, share
from benchmarks.synthetic import target_job, views_of, write_photos
from extract.bill.sizes import manifests_amount, targets_amount
from extract.plan_views import ViewSetJob
from shards.documents import Commit
from shards.layout import commit_path, tar_path
from shards.records import FileRecord
from shards.rows import checksums_of
from shards.sealed import sealed
from shards.storage.rendered import Storage, spec_of
from shards.views.rendered import ARRAY, Box, RenderedCodec, of_row, pixels_of
from shards.views.resampling import INTERPOLATIONS, LINEAR_EXACT

GOAL, BYTES_GOAL, IMAGENET, NUM_VIEWS = 0.7, 100e9, 1_281_167, 300
SEVERAL = 4
"""Views a decode; the goal is theirs, resampled by what is fastest."""
Drawn = tuple[Box, bool, int]
"""Of a view its crop, whether it is flipped, and the crc32c of its pixels."""
SIZES = {"cpu": {"samples": 256, "image_size": 224, "source_size": 320}}
SIZES |= {"cuda": SIZES["cpu"], "quick": {"samples": 16, "image_size": 64, "source_size": 96}}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """One thread; the photos are 500 x 375 pixels, or those of --images."""
    settings = settings_here(SIZES, options) | {"threads": 1}
    num, size, source_size = settings["samples"], settings["image_size"], settings["source_size"]
    data = write_photos(folder / "photos", num, 500, 375, options.images)
    stored = views_of(folder / "stored", data, f"crop:size={size}")
    views = views_of(folder / "rendered", data, f"crop:size={size},store=source,source_size={source_size}", SEVERAL)
    crops = [each["jpg"] for each in stored.storage.members(0, range(num))]
    photos = [path.read_bytes() for path in sorted((folder / "photos/photos").iterdir())]
    storage = views.storage
    assert isinstance(storage, Storage)
    images = [storage.images.content(0, sample, "jpg") for sample in range(num)]
    rows = [storage.arrays.read(view, np.arange(num))[ARRAY] for view in range(SEVERAL)]
    drawn = [[of_row(row) for row in of_image] for of_image in zip(*rows, strict=True)]
    settings |= {f"bytes_of_{name}": _mean(files) for name, files in {"a_crop": crops, "an_image": images}.items()}
    timed = {
        "crops decoded": per_unit(_decoding(crops, size), num),
        "photos decoded, cut and resized": per_unit(_from_photos(storage.codec, photos), num),
    }
    kinds = [(name, count) for name in INTERPOLATIONS for count in (1, SEVERAL)]
    for name, count in kinds:
        codec = replace(storage.codec, interpolation=name)
        work = _rendering(codec, images, _redrawn(codec, images, drawn), count)
        timed[f"{name}, {count} a decode"] = per_unit(work, num * count)
    seconds = alternate(timed, options.rounds)
    report = Report("how fast are views rendered, as a share of decoding stored crops?", "views", settings)
    report.add_rates(seconds)
    decoded, whole, *rendered = seconds.values()
    limit = "2.7 times as many pixels are decoded once for all, and each view is resized"
    for (name, count), each in zip(kinds, rendered, strict=True):
        compared = f"views rendered ({name}, {count} a decode) over crops decoded, a core"
        goal = GOAL if (name, count) in ((INTERPOLATIONS[0], 1), (LINEAR_EXACT, SEVERAL)) else None
        report.figures.append(Figure(compared, limit, share(decoded, each), goal))
    limit = "the pixels of a photo over those of the image"
    compared = f"views rendered ({INTERPOLATIONS[0]}, 1 a decode) over full-size photos, a core"
    report.figures.append(Figure(compared, limit, share(whole, rendered[0])))
    num_bytes = imagenet_bytes(views)
    settings["bytes_of_300_views_of_imagenet"] = round(num_bytes)
    compared = f"100 GB over 300 views of ImageNet with top-16 ({num_bytes / 1e9:.1f} GB)"
    report.figures.append(Figure(compared, "the images, once", Spread.of([BYTES_GOAL / num_bytes]), 1))
    return report


def imagenet_bytes(views: ViewSetJob) -> float:
    """The files of 300 views of ImageNet's size, its images as large as those of `views`, and their top 16 logits."""
    num = len(views.plan.keys)
    once = [tar_path(0, shard) for shard in range(views.plan.num_shards)]
    once += [commit_path(0, shard) for shard in range(views.plan.num_shards)]
    images = IMAGENET * sum((views.folder / name).stat().st_size for name in once) / num
    big = replace(views, plan=structs.replace(views.plan, keys=["photo"] * IMAGENET), num_views=NUM_VIEWS)
    counts = [len(big.plan.rows(shard)) for shard in range(big.plan.num_shards)]
    spec = spec_of(big.plan)
    commits = {count: _commit_bytes(spec.shard_path(0, 0), count) for count in set(counts)}
    crops = spec.view_bytes + sum(commits[count] for count in counts)
    logits = targets_amount(target_job(big, "logits", (1000,), "topk:16"), big, counts)
    written = logits * NUM_VIEWS
    written = replace(written, num_files=written.num_files + NUM_VIEWS * 2 * len(counts))
    return images + NUM_VIEWS * crops + written.num_bytes + manifests_amount(written, [None, None]).num_bytes


def _commit_bytes(path: str, num_rows: int) -> int:
    checksums = {ARRAY: checksums_of([b"-"] * num_rows)}
    record = Commit(0, 0, {path: FileRecord(1 << 13, "0" * 64)}, skipped=[], checksums=checksums)
    return len(sealed(record.document()))


def _mean(files: list[bytes]) -> int:
    return round(sum(map(len, files)) / len(files))


def _redrawn(codec: RenderedCodec, images: list[bytes], drawn: list[list[Drawn]]) -> list[list[Drawn]]:
    """The same crops with the checksums of what `codec` renders."""
    out = _out(codec.image_size)
    return [
        [(box, flip, codec.render(pixels, box, flip, out)) for box, flip, _ in views]
        for pixels, views in zip(map(pixels_of, images), drawn, strict=True)
    ]


def _out(size: int) -> np.ndarray:
    return np.empty((size, size, 3), np.uint8)


def _rendering(
    codec: RenderedCodec, images: list[bytes], drawn: Sequence[Sequence[Drawn]], count: int
) -> Callable[[], None]:
    """The first `count` views of each image, of one decode."""
    out = _out(codec.image_size)

    def work() -> None:
        for content, views in zip(images, drawn, strict=True):
            pixels = pixels_of(content)
            for box, flip, checksum in views[:count]:
                assert codec.render(pixels, box, flip, out) == checksum

    return work


def _decoding(crops: list[bytes], size: int) -> Callable[[], None]:
    out = _out(size)

    def work() -> None:
        for content in crops:
            simplejpeg.decode_jpeg(content, "RGB", buffer=out)

    return work


def _from_photos(codec: RenderedCodec, photos: list[bytes]) -> Callable[[], None]:
    """The crop as large a share of the photo as that of the middle half."""
    out = _out(codec.image_size)

    def work() -> None:
        for content in photos:
            pixels = pixels_of(content)
            height, width = (side * 7 // 10 for side in pixels.shape[:2])
            codec.render(pixels, (0, 0, width, height), False, out)

    return work


if __name__ == "__main__":
    run(measure, "rendering", with_images=True)
