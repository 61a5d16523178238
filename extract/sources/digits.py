"""`digits`: scikit-learn's 1,797 real handwritten digits, 8 x 8 grey pixels, with no download."""

from functools import cache

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from extract.sources.base import Source
from extract.sources.naming import content_revision
from shards.splits import canonical_split, choose_split


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """Every fifth digit (index % 5 == 4) is `validation`, which `val` and `test` mean too; the others are `train`.

    The data is the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998).
    """
    images, labels = _all()
    asked = "validation" if canonical_split(split) == "test" else split
    chosen = choose_split("--data digits", asked, ("train", "validation"))
    rows = [row for row in range(len(images)) if (row % 5 == 4) == (chosen == "validation")]

    def fetch(index: int) -> tuple[bytes | Image.Image, int | None]:
        row = rows[index]
        return Image.fromarray(images[row]), int(labels[row])

    return Source(
        name="digits",
        revision=content_revision([images.tobytes(), labels.tobytes()])[:16],
        split=chosen,
        keys=[f"digit-{row:04d}" for row in rows],
        class_names=tuple(map(str, range(10))),
        fetch=fetch,
        encoded=False,
        default_augment="crop:scale=0.7-1,ratio=0.9-1.1,flip=0",
    )


@cache
def _all() -> tuple[UInt8[np.ndarray, "digits 8 8"], Int64[np.ndarray, " digits"]]:
    """Images and labels; read once a process, as scikit-learn reads a table of text."""
    from sklearn.datasets import load_digits

    data = load_digits()
    # stored as 0..16: spread over 0..255
    return (data.images * (255 / 16)).round().astype("uint8"), data.target.astype("<i8")
