"""Promise 1, open: plain webdataset reads the tars and plain zarr reads the arrays, without a line of this project."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import webdataset
import zarr
from caches import IMAGE_SIZE, NUM_SAMPLES, extract, targetset_of, viewset_of
from PIL import Image

from shards.codecs import CODEBOOKS, REGISTRY
from shards.reader import TargetSet, ViewSet


@pytest.mark.parametrize("view", [0, 1])
def test_webdataset_reads_a_view(pristine: Path, view: int) -> None:
    tars = str(viewset_of(pristine) / f"views/v{view:02d}-{{00000..00002}}.tar")
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    plan = json.loads((viewset_of(pristine) / "plan.json").read_bytes())
    assert [sample["__key__"] for sample in samples] == plan["keys"]
    views = ViewSet(viewset_of(pristine))
    for index, sample in enumerate(samples):
        assert {name for name in sample if not name.startswith("__")} == {"jpg", "cls", "json"}
        for ending in ("jpg", "cls", "json"):
            assert sample[ending] == views.storage.content(view, index, ending)
        assert json.loads(sample["json"])["key"] == sample["__key__"]


def test_webdatasets_own_decoding_gives_images_and_labels(pristine: Path) -> None:
    tar = str(viewset_of(pristine) / "views/v00-00002.tar")
    pairs = list(webdataset.WebDataset(tar, shardshuffle=False).decode("pil").to_tuple("jpg", "cls"))
    assert len(pairs) == 8
    for image, label in pairs:
        assert isinstance(image, Image.Image) and image.size == (IMAGE_SIZE, IMAGE_SIZE) and 0 <= label <= 9


def test_lossless_views_are_png_files(tmp_path: Path) -> None:
    flags = ("--data", "digits", "--limit", "3", "--image_size", "16", "--image_format", "png")
    extract("--teacher", "none", "--out", tmp_path, *flags)
    (sample, *_) = webdataset.WebDataset(str(viewset_of(tmp_path) / "views/v00-00000.tar"), shardshuffle=False)
    assert Image.open(io.BytesIO(sample["png"])).format == "PNG"


@pytest.mark.parametrize("codec", sorted(REGISTRY))
def test_zarr_reads_every_array_of_every_codec(pristine: Path, teacher: Path, tmp_path: Path, codec: str) -> None:
    import shutil

    cache = Path(shutil.copytree(pristine, tmp_path / "cache"))
    shutil.rmtree(viewset_of(cache) / "targets")
    extract("--teacher", f"run:{teacher}", "--out", cache, "--codec", codec + ":2,centroids=16" * (codec in CODEBOOKS))
    folder = targetset_of(cache)
    group, targets = zarr.open_group(str(folder), mode="r"), TargetSet(folder)
    assert dict(group.arrays()).keys() == targets.arrays.keys()
    assert group.attrs["identity"] == targets.identity
    for name, array in group.arrays():
        spec = targets.arrays[name]
        assert array.shape == (2, NUM_SAMPLES, *spec.row_shape) and array.dtype == spec.dtype
        for view in range(2):
            ours = targets.read(view, np.arange(NUM_SAMPLES))[name]
            np.testing.assert_array_equal(array[view], ours)
            assert array[view].any()  # a shard that zarr does not find reads as zeros, without an error


def test_a_row_of_zarr_belongs_to_the_sample_of_webdataset(pristine: Path, teacher: Path) -> None:
    """The two halves of a cache are tied by position: row i of view v is the i-th sample of view v's tars."""
    import torch

    from extract.networks import load_exported

    network, document = load_exported(teacher)
    tars = str(viewset_of(pristine) / "views/v01-{00000..00002}.tar")
    pixels = [np.asarray(image) for (image,) in webdataset.WebDataset(tars).decode("rgb8").to_tuple("jpg")]
    inputs = (np.stack(pixels) / 255 - document["mean"]) / document["std"]
    with torch.no_grad():
        logits = network(torch.from_numpy(inputs).float().permute(0, 3, 1, 2))["logits"].numpy()
    stored = zarr.open_group(str(targetset_of(pristine)), mode="r")["values"]
    np.testing.assert_allclose(stored[1], logits, atol=1e-4)  # type: ignore[index]
