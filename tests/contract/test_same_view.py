"""Promise 3, same view: teacher and student see the pixels that are stored, and nothing else decides them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import NUM_SAMPLES, SHARD_SIZE, extract, reseal_records, targetset_of, viewset_of, write_teacher
from PIL import Image

from extract.modalities.image import normalise
from extract.teachers import load_teacher
from shards.identity import sha256_of
from shards.in_order import in_order
from shards.loader import BatchLoader
from shards.reader import Component, TargetSet, ViewSet
from shards.sealed import sealed
from shards.tar import pack
from shards.views import image as images


def live_rows(teacher: Path, cache: Path, view: int) -> np.ndarray:
    """The teacher's logits for the batches that a student is given."""
    loaded, views = load_teacher(f"run:{teacher}"), ViewSet(viewset_of(cache))
    loader = BatchLoader([Component(views)], in_order(views.usable, SHARD_SIZE, view), SHARD_SIZE)
    rows = []
    with torch.inference_mode():
        for batch in loader:
            inputs = normalise(batch.fields["pixels"], loaded.inputs.mean, loaded.inputs.std)
            rows.append(loaded.network(inputs)["logits"].numpy())
    return np.concatenate(rows)


@pytest.mark.parametrize("view", [0, 1])
def test_a_live_teacher_says_of_a_students_batch_what_is_stored(pristine: Path, teacher: Path, view: int) -> None:
    stored = TargetSet(targetset_of(pristine)).read(view, np.arange(NUM_SAMPLES))["values"]
    np.testing.assert_array_equal(live_rows(teacher, pristine, view), stored)


def test_the_two_views_of_a_sample_are_not_the_same(pristine: Path, teacher: Path) -> None:
    targets = TargetSet(targetset_of(pristine))
    rows = [targets.read(view, np.arange(NUM_SAMPLES))["values"] for view in range(2)]
    assert (rows[0] != rows[1]).any(axis=1).mean() > 0.8  # an 8 x 8 digit has few crops, and some are drawn twice


def test_the_teacher_reads_the_stored_file_and_not_the_source(cache: Path, tmp_path: Path) -> None:
    """As if an older library had decoded, cropped and encoded otherwise: the stored tars are the truth."""
    folder = viewset_of(cache)
    for view in range(2):
        for shard in range(3):
            _repaint(folder, view, shard)
    names = [f"{kind}/v{view:02d}-{shard:05d}.{end}" for view in range(2) for shard in range(3) for kind, end in FILES]
    reseal_records(folder, "viewset.json", *names)
    second = write_teacher(tmp_path / "second", seed=1)
    done = extract("--teacher", f"run:{second}", "--out", cache, "--codec", "float32")
    assert "0 views made, 80 teacher forwards" in done.out
    stored = TargetSet(targetset_of(cache, "second")).read(0, np.arange(NUM_SAMPLES))["values"]
    np.testing.assert_array_equal(live_rows(second, cache, 0), stored)
    rounding = 1e-5 * np.abs(stored).max()  # a kernel may add up in another order at another place in a batch
    assert np.abs(stored[::2] - stored[0]).max() < rounding < np.abs(stored[1] - stored[0]).max()


FILES = (("views", "tar"), ("commits", "json"))


def _repaint(folder: Path, view: int, shard: int) -> None:
    """Every other sample of a shard becomes blue, and the shard's commit says so."""
    name, commit = (folder / f"{kind}/v{view:02d}-{shard:05d}.{end}" for kind, end in FILES)
    with tarfile.open(name) as tar:
        held = [(header.name, tar.extractfile(header).read()) for header in tar]  # type: ignore[union-attr]
    samples: dict[str, dict[str, bytes]] = {}
    for member, content in held:
        key, _, ending = member.partition(".")
        samples.setdefault(key, {})[ending] = content
    blue = np.zeros((16, 16, 3), np.uint8)
    blue[..., 2] = 200
    for key in [*samples][::2]:
        samples[key]["jpg"] = images.encode(blue, images.parse_image_format("jpeg"))
    data, members = pack(samples.items())
    name.write_bytes(data)
    document = json.loads(commit.read_bytes())
    document.pop("sha256")
    document.pop("checksums")
    record = {f"views/{name.name}": {"size": len(data), "sha256": sha256_of(data)}}
    commit.write_bytes(sealed(document | {"files": record, "members": members}))


def test_what_is_stored_is_what_the_facts_say(tmp_path: Path) -> None:
    """Lossless views against Pillow alone: the crop in the .json, resized, flipped, is the image beside it."""
    from sklearn.datasets import load_digits

    augment = ("--augment", "crop:scale=0.3-0.9,flip=0.5", "--image_format", "png")
    extract("--teacher", "none", "--out", tmp_path, "--data", "digits", "--limit", "30", "--image_size", "12", *augment)
    views, digits = ViewSet(viewset_of(tmp_path)), load_digits().images
    flips = set()
    for sample in range(30):
        facts = json.loads(views.storage.content(0, sample, "json"))
        source = Image.fromarray((digits[int(facts["key"][6:])] * 255 / 16).round().astype(np.uint8)).convert("RGB")
        left, top, width, height = facts["crop"]
        expected = source.crop((left, top, left + width, top + height)).resize((12, 12), Image.Resampling.BICUBIC)
        if facts["flip"]:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        stored = Image.open(io.BytesIO(views.storage.content(0, sample, "png")))
        np.testing.assert_array_equal(np.asarray(stored), np.asarray(expected))
        flips.add(facts["flip"])
    assert flips == {True, False}


def test_normalise_is_torchvisions() -> None:
    from torchvision.transforms.functional import normalize

    pixels = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = normalize(pixels.permute(0, 3, 1, 2) / 255, mean, std)
    torch.testing.assert_close(normalise(pixels, mean, std), expected, atol=1e-5, rtol=1e-5)
