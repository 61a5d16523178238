"""What the tests of pairs start from: tars of small pictures with captions, as WebDataset and img2dataset have them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230), "grey": (128, 128, 128)}
SHAPES = ("cat", "dog", "moon", "river")
"""Words that the tokenizer of tests/texts.py knows."""
SIDE = 16


def picture(number: int) -> tuple[Image.Image, list[str]]:
    """One of 16 kinds of pictures, with noise of its own, and its captions: one to three."""
    colour, shape = list(COLOURS)[number % 4], SHAPES[number // 4 % 4]
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, :] = COLOURS[colour]
    half = SIDE // 2
    rows, columns = divmod(number // 4 % 4, 2)
    pixels[rows * half : (rows + 1) * half, columns * half : (columns + 1) * half] = 255
    noise = np.random.default_rng(number).integers(-20, 20, pixels.shape)
    image = Image.fromarray(np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8))
    captions = [f"the {shape} on {colour} number {number}", f"{colour} {shape}", f"a small {shape}"]
    return image, captions[: 1 + number % 3]


def write_pairs(folder: Path, num: int = 24) -> Path:
    """`train.tar` and `validation.tar`: .png and .json with a list of captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, first in (("train", 0), ("validation", 1000)):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for number in range(first, first + num):
                image, captions = picture(number)
                buffer = io.BytesIO()
                image.save(buffer, "PNG")
                for ending, content in (
                    ("json", json.dumps({"caption": captions}).encode()),
                    ("png", buffer.getvalue()),
                ):
                    member = tarfile.TarInfo(f"{number:05d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder
