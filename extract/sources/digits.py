"""`digits`: scikit-learn's 1,797 real handwritten digits, 8 x 8 grey pixels, with no download."""

from PIL import Image

from extract.sources.base import Source
from extract.sources.naming import content_revision
from shards.splits import canonical_split, choose_split


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """Every fifth digit (index % 5 == 4) is `validation`, which `val` and `test` mean too; the others are `train`.

    The data is the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998).
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    # stored as 0..16: spread over 0..255
    images = (data.images * (255 / 16)).round().astype("uint8")
    labels = data.target.astype("<i8")
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
        class_names=tuple(str(name) for name in data.target_names),
        fetch=fetch,
        encoded=False,
        default_augment="crop:scale=0.7-1,ratio=0.9-1.1,flip=0",
    )
