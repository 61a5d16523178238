"""Materials: what a case extracts and trains on: photos, texts, or photos with captions, and who teaches.

A case's settings say which: `data` (photos, texts, pairs), `image_size` or `tokens`, `teacher`, and of texts and pairs
the `encoder` whose tokenizer reads the words. The teacher `encoder` is that one itself.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import write_photos, write_weights
from benchmarks.synthetic_texts import random_lines, random_words, write_text_encoder
from extract.teachers import load_teacher
from extract.teachers.base import Teacher

ENCODERS: dict[str, dict[str, int]] = {
    "bert": {"width": 768, "depth": 12, "heads": 12, "hidden": 3072, "positions": 512},
    "minilm": {"width": 384, "depth": 6, "heads": 12, "hidden": 1536, "positions": 512},
    "tiny": {"width": 32, "depth": 2, "heads": 2, "hidden": 64, "positions": 64},
}
"""Sizes of BERT (Devlin et al. 2019, base), of MiniLM-L6, and of one that measures nothing."""
NUM_WORDS, NUM_CAPTIONS, CAPTION_WORDS = 20_000, 5, (8, 16)
"""Entries of the vocabulary; captions of an image, as COCO has them, and their words, from and to."""


@dataclass(frozen=True)
class Material:
    """A source, how its views are made, and the teacher of a case."""

    data: str
    view: str
    teacher: str
    weights: str | None
    teacher_size: int | None
    """Pixels a side or tokens that the teacher is to take; None: its own number of tokens."""
    encoder: Path
    """The folder of the text encoder; nothing is there where no text is read."""

    @property
    def flags(self) -> dict[str, Any]:
        """As `extract` takes them."""
        flags = {"data": self.data, "view": self.view, "teacher": self.teacher, "weights": self.weights}
        return {name: value for name, value in flags.items() if value is not None}

    def load_teacher(self) -> Teacher:
        """The teacher, as `extract` loads it."""
        return load_teacher(self.teacher, self.weights, self.teacher_size)

    def spec(self, student: str) -> str:
        """A student's spec, the tokenizer's folder in the place of ENCODER."""
        return student.replace("ENCODER", str(self.encoder))


def material(settings: Mapping[str, Any], folder: Path, num_samples: int) -> Material:
    """The material of a case's settings, `num_samples` samples of it, in `folder`."""
    encoder, kind = folder / "encoder", settings.get("data", "photos")
    size = settings["tokens" if kind == "texts" else "image_size"]
    words = random_words(NUM_WORDS)
    if kind != "photos":
        write_text_encoder(encoder, words, **ENCODERS[settings["encoder"]])
    if kind == "texts":
        (folder / "texts").mkdir()
        with (folder / "texts/train.txt").open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in random_lines(words, num_samples * (size - 2)))
        data, view = f"text:{folder / 'texts'}", f"blocks:size={size}"
    else:
        data = write_photos(folder / "photos", num_samples, 500, 375, settings.get("images"))
        view = f"crop:size={size}"
    if kind == "pairs":
        _write_captions(folder / "photos/photos", words, num_samples)
        view = f"pair:size={size}"
    if settings.get("teacher", "encoder") == "encoder":
        return Material(data, view, f"hf:{encoder}", None, size if kind == "texts" else None, encoder)
    weights = str(write_weights(settings["teacher"], folder, size))
    return Material(data, view, settings["teacher"], weights, size, encoder)


def as_flags(values: Mapping[str, Any]) -> list[Any]:
    """--NAME VALUE of each."""
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def _write_captions(photos: Path, words: list[str], num_samples: int) -> None:
    """Captions beside the photos, as many for each."""
    generator = np.random.default_rng(0)
    with (photos / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "caption"))
        for number in range(num_samples):
            for _ in range(NUM_CAPTIONS):
                picked = generator.integers(len(words), size=generator.integers(*CAPTION_WORDS, endpoint=True))
                writer.writerow((f"photo-{number:06d}.jpg", " ".join(words[word] for word in picked.tolist())))
