"""Readers: every kind of foreign file that this project reads, as a small valid example and the function that reads it.

`READERS` has, by name, what writes the example into a folder and what reads it whole, as the commands do; `spoils` are
the files of which one is spoilt at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import foreign, of_caches


@dataclass(frozen=True)
class Reader:
    """One kind of foreign file."""

    write: Callable[[Path], Any]
    """Fills an empty folder with a valid example."""
    read: Callable[[Path], Any]
    """Reads all of it; raises our errors alone."""
    spoils: tuple[str, ...]
    """Patterns of the files that are spoilt."""
    reseals: bool = False
    """Whether the files are of a cache, whose manifests are to fit what is spoilt."""


def _data(scheme: str) -> Callable[[Path], None]:
    return lambda folder: foreign.read_source(f"{scheme}:{folder}")


def _cache(*spoils: str) -> Reader:
    return Reader(of_caches.write_cache, of_caches.read_cache, spoils, reseals=True)


def _pairs(folder: Path) -> None:
    foreign.read_source(f"wds:{folder}:captions=caption")


READERS: dict[str, Reader] = {
    "images": Reader(foreign.write_images, foreign.read_images, ("*",)),
    "tars": Reader(foreign.write_labelled_tar, _data("wds"), ("*.tar",)),
    "pair_tars": Reader(foreign.write_pair_tar, _pairs, ("*.tar",)),
    "captions": Reader(foreign.write_captions, foreign.read_captions, ("captions.*",)),
    "karpathy": Reader(foreign.write_karpathy, foreign.read_karpathy, ("*.json",)),
    "parquet": Reader(foreign.write_parquet, _data("parquet"), ("*.parquet",)),
    "texts": Reader(foreign.write_texts, foreign.read_texts, ("*",)),
    "sentences": Reader(foreign.write_sentences, foreign.read_sentences, ("*",)),
    "manifests": _cache("*/viewset.json", "*/targets/*/targetset.json"),
    "plans": _cache("*/plan.json", "*/extract.yaml", "*/targets/*/extract.yaml"),
    "commits": _cache("*/commits/*.json", "*/targets/*/commits/*.json"),
    "zarr_json": _cache("*/targets/*/zarr.json", "*/targets/*/*/zarr.json"),
    "shards": Reader(
        of_caches.write_unchecked_cache, of_caches.read_cache, ("*/views/*.tar", "*/targets/*/*/c/*/*/*"), True
    ),
    "text_cache": Reader(
        of_caches.write_text_cache,
        of_caches.read_text_cache,
        ("*/*.json", "*/keys.npy", "*/*/zarr.json", "*/targets/*/*.*"),
        reseals=True,
    ),
    "runs": Reader(of_caches.write_run, of_caches.read_run, ("run/*", "run/logs/*/*.csv")),
    "checkpoints": Reader(foreign.write_checkpoints, foreign.read_checkpoints, ("*",)),
    "tokenizers": Reader(
        foreign.write_tokenizer, foreign.read_tokenizer, ("tokenizer*.json", "vocab.txt", "config.json")
    ),
    "encoders": Reader(foreign.write_encoder, foreign.read_encoder, ("*.json", "*.safetensors")),
    "yaml": Reader(foreign.write_yaml, foreign.read_yaml, ("*.yaml",)),
}
