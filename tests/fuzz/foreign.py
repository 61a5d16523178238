"""Foreign: small valid files as others write them (data, checkpoints, tokenizers, YAML), and what reads them whole."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from pairs import picture, write_pairs
from safetensors.torch import save_file
from texts import write_encoder

from extract.sources import open_source
from shards.errors import TeacherShardsError


def read_source(data: str, split: str = "train", data_dir: str | None = None) -> None:
    source = open_source(data, split, data_dir)
    if source.documents is not None:
        assert all(isinstance(each.text, str) for each in source.documents(0))
    for index in range(len(source.keys)):
        with contextlib.suppress(TeacherShardsError):
            source.read(index)


def write_pair_tar(folder: Path) -> None:
    write_pairs(folder, 3)
    (folder / "validation.tar").unlink()


def write_labelled_tar(folder: Path) -> None:
    import tarfile

    with tarfile.open(folder / "train.tar", "w") as tar:
        for number in range(3):
            for ending, content in (("png", _png(number)), ("cls", b"%d" % number), ("json", b'{"label": "a"}')):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number)[0].save(buffer, "PNG")
    return buffer.getvalue()


FORMATS = {
    **{"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "ppm": "PPM"},
    **{"avif": "AVIF", "jp2": "JPEG2000", "tga": "TGA"},
}


def write_images(folder: Path) -> None:
    for ending, name in FORMATS.items():
        picture(3)[0].resize((8, 8)).save(folder / f"a.{ending}", name)


def read_images(folder: Path) -> None:
    """As a source's photo, and as a stored view."""
    from extract.modalities.crop import to_rgb
    from extract.photo import decoded
    from shards.views.image import decode
    from shards.views.rendered import pixels_of

    def read(name: str) -> None:
        content = (folder / name).read_bytes()
        if name.endswith((".jpg", ".png")):
            for stored in (lambda: decode(content, np.empty((8, 8, 3), np.uint8)), lambda: pixels_of(content)):
                with contextlib.suppress(TeacherShardsError):
                    stored()
        to_rgb(decoded(content, True, "x"))

    each(read, *sorted(path.name for path in folder.iterdir()))


def write_captions(folder: Path) -> None:
    for number in range(2):
        (folder / f"{number}.png").write_bytes(_png(number))
    lines = [{"file_name": f"{number}.png", "caption": picture(number)[1]} for number in range(2)]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "captions.csv").write_text('image,caption\n0.png,a cat\n1.png,"a dog, here"\n')
    (folder / "captions.txt").write_text("0.png#0\ta cat\n1.png#0\ta dog\n")


def read_captions(folder: Path) -> None:
    each(lambda name: read_source(f"folder:{folder}:captions={name}"), "captions.jsonl", "captions.csv", "captions.txt")


SPOILT = ""
"""The name of the file that is spoilt now, where one is."""


def each(read: Callable[[str], Any], *names: str) -> None:
    """Our error of one does not hide what another raises; only the one that is spoilt is read, where one is."""
    for name in names:
        if SPOILT in (name, "") or SPOILT not in names:
            with contextlib.suppress(TeacherShardsError):
                read(name)


def write_karpathy(folder: Path) -> None:
    images = []
    for number, split in enumerate(("train", "restval", "val")):
        (folder / "images").mkdir(exist_ok=True)
        (folder / f"images/{number}.png").write_bytes(_png(number))
        sentences = [{"raw": text} for text in picture(number)[1]]
        images.append({"filename": f"{number}.png", "split": split, "sentences": sentences, "imgid": number})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))


def read_karpathy(folder: Path) -> None:
    read_source("coco", "train", str(folder))


def write_parquet(folder: Path) -> None:
    rows = {
        "image": [{"bytes": _png(number), "path": f"{number}.png"} for number in range(3)],
        "label": ["a", "b", "a"],
        "caption": [picture(number)[1] for number in range(3)],
    }
    pa.parquet.write_table(pa.table(rows), folder / "train.parquet", row_group_size=2)


def write_texts(folder: Path) -> None:
    (folder / "train.txt").write_text("a cat sat\nthe dog ran\n\nthe moon\n")
    (folder / "train.jsonl").write_text('{"text": "a cat", "label": 1}\n{"text": "a dog", "label": 0}\n')


def read_texts(folder: Path) -> None:
    data = (f"text:{folder}/train.txt", f"text_files:{folder}/train.txt", f"text:{folder}/train.jsonl:label=label")
    each(read_source, *data)


def write_sentences(folder: Path) -> None:
    (folder / "validation.csv").write_text('sentence1,sentence2,score\na cat,a dog,0.5\nthe moon,"a, b",1\n')
    (folder / "validation.tsv").write_text("sentence1\tsentence2\tscore\na cat\ta dog\t0.5\n")
    (folder / "validation.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 1.5}\n')


def read_sentences(folder: Path) -> None:
    each(
        lambda name: read_source(f"sentences:{folder / name}", "validation"), *sorted(p.name for p in folder.iterdir())
    )


def write_checkpoints(folder: Path) -> None:
    state = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2), "a.n": torch.tensor(3)}
    torch.save(state, folder / "plain.pt")
    torch.save({"state_dict": state, "optimizer": {"lr": 0.1, "steps": [1, 2]}}, folder / "trainer.pt")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"cfg": {"model": {"embed_dim": 4}}, "model": state}, folder / "fairseq.pt")
    save_file(state, folder / "weights.safetensors")


def read_checkpoints(folder: Path) -> None:
    from extract.networks.data2vec2.checkpoint import load_data2vec2
    from extract.networks.state_dict import read_state_dict
    from extract.teachers.base import sha256_of_state

    def read(name: str) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            state = read_state_dict(folder / name)
            sha256_of_state(state)

    each(read, *sorted(path.name for path in folder.iterdir()))
    each(lambda name: load_data2vec2(folder / name), "fairseq.pt", "old.pth")


def write_tokenizer(folder: Path) -> None:
    write_encoder(folder)


def read_tokenizer(folder: Path) -> None:
    from extract.modalities.tokenizer import TextTokenizer

    TextTokenizer.of_folder("--teacher x", folder)


def read_encoder(folder: Path) -> None:
    from extract.teachers import load_teacher

    load_teacher(f"hf:{folder}")


def write_yaml(folder: Path) -> None:
    from distill.recipe import FOLDER as RECIPES

    (folder / "flags.yaml").write_text("teacher: none\ndata: digits\nviews: 3\nview: crop:size=16\nlimit: null\n")
    for name in ("clip-kd", "digits"):
        shutil.copy(RECIPES / f"{name}.yaml", folder / f"{name}.yaml")
    (folder / "preset.yaml").write_text("task: knn\nk: 20\ntemperature: 0.07\n")


def read_yaml(folder: Path) -> None:
    from distill.recipe import load_recipe
    from evaluate.preset import read_preset
    from extract.config import ALIASES, HIDDEN, ExtractConfig
    from shards.command.arguments import parse

    flags = ["--config", str(folder / "flags.yaml"), "--out", str(folder)]

    def read(name: str) -> None:
        if name == "flags.yaml":
            parse(ExtractConfig, "extract", flags, "", aliases=ALIASES, hidden=HIDDEN)
        elif name == "preset.yaml":
            read_preset(str(folder / name))
        else:
            load_recipe(str(folder / name))

    each(read, "flags.yaml", "clip-kd.yaml", "digits.yaml", "preset.yaml")
