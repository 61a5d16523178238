"""Promise 5, same bytes: whatever the number of threads and processes, the order of shards, the place and the time."""

import json
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from caches import DIGITS, SMALL, contents, extract, targetset_of, viewset_of

from shards.reader import TargetSet
from tests.extract.test_data2vec2_writer import write_checkpoint

FLAGS = (*SMALL, "--views", "2", "--codec", "float32")
CASES = ("logits", "drawn logits", "kept tokens")


@pytest.fixture(scope="module", params=CASES)
def made(
    request: pytest.FixtureRequest, pristine: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path]:
    """Flags and the cache that they made: logits in float32 or drawn, or 4 tokens a view of a layer mean beside CLS."""
    if request.param == "logits":
        return ["--teacher", f"run:{teacher}", *FLAGS], pristine
    folder = tmp_path_factory.mktemp("kept")
    if request.param == "drawn logits":
        flags = ["--teacher", f"run:{teacher}", *SMALL, "--views", "2", "--codec", "sample:3"]
        extract(*flags, "--out", folder / "cache")
        return flags, folder / "cache"
    flags = ["--teacher", "data2vec2", "--weights", str(write_checkpoint(folder / "tiny.pt")), *DIGITS, "--views", "2"]
    flags += ["--devices", "cpu", "--target", "layer_mean,cls", "--keep_tokens", "4"]
    extract(*flags, "--out", folder / "cache")
    return flags, folder / "cache"


@pytest.mark.parametrize("num_threads", [1, 5])
def test_for_any_number_of_threads(
    made: tuple[list[str], Path], tmp_path: Path, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, reference = made
    monkeypatch.setattr(joblib, "cpu_count", lambda: num_threads)  # as on a machine of so many cores
    extract(*flags, "--out", tmp_path / "cache")
    assert contents(tmp_path / "cache") == contents(reference)


@pytest.mark.slow
@pytest.mark.parametrize("made", CASES, indirect=True)
def test_for_any_number_of_processes(made: tuple[list[str], Path], tmp_path: Path) -> None:
    flags, reference = made
    done = extract(*flags, "--out", tmp_path / "cache", "--devices", "2")
    assert "80 views made, 80 teacher forwards" in done.out
    assert contents(tmp_path / "cache") == contents(reference)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_for_any_order_of_the_shards(pristine: Path, teacher: Path, tmp_path: Path, order: tuple[int, ...]) -> None:
    from extract.config import ExtractConfig
    from extract.pipeline import Extraction
    from extract.plan_targets import Part, plan_targets
    from extract.plan_views import plan_views, stored_views
    from extract.store import begin_targets, begin_views
    from extract.teachers import load_teacher

    flags = {"data": "digits", "limit": 40, "shard_size": 16, "view": "size=16", "views": 2, "codec": "float32"}
    stored = stored_views(ExtractConfig(f"run:{teacher}", str(tmp_path), **flags))  # type: ignore[arg-type]
    loaded = load_teacher(f"run:{teacher}")
    views = plan_views(stored, loaded.inputs)
    (targets,) = plan_targets(stored.config, views, loaded)
    views.folder.mkdir()
    saved = (viewset_of(pristine) / "extract.yaml").read_bytes()
    begin_views(views, saved)
    begin_targets(targets, views, saved)
    for rank in order:
        Extraction(
            [Part(views, loaded, [targets])], torch.device("cpu"), "float32", 64, 2, False, rank=rank, num_processes=3
        ).run()
    extract("--teacher", f"run:{teacher}", "--out", tmp_path, "--views", "2", "--codec", "float32")
    assert contents(tmp_path) == contents(pristine)


def test_the_views_for_any_batch_size(pristine: Path, teacher: Path, tmp_path: Path) -> None:
    """A teacher's arithmetic may round otherwise in another batch, by no more than that; the views may not."""
    extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *FLAGS, "--batch_size", "5")
    views, expected = contents(viewset_of(tmp_path / "cache") / "views"), contents(viewset_of(pristine) / "views")
    assert views == expected and len(views) == 6
    one, other = TargetSet(targetset_of(tmp_path / "cache")), TargetSet(targetset_of(pristine))
    assert one.identity == other.identity
    for view in range(2):
        rows = [targets.read(view, np.arange(40))["values"] for targets in (one, other)]
        np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=1e-5 * np.abs(rows[1]).max())


def test_a_sample_is_the_same_in_a_smaller_or_larger_source(pristine: Path, tmp_path: Path) -> None:
    """A view depends on (seed, key, view) alone: not on its neighbours, its shard or its row."""
    import tarfile

    flags = ("--data", "digits", "--limit", "23", "--image_size", "16", "--shard_size", "7", "--views", "2")
    extract("--teacher", "none", "--out", tmp_path, *flags)

    def members(cache: Path) -> dict[tuple[str, str], bytes]:
        found = {}
        for path in sorted((viewset_of(cache) / "views").iterdir()):
            with tarfile.open(path) as tar:
                held = {(path.name[:3], header.name): tar.extractfile(header).read() for header in tar}  # type: ignore[union-attr]
            found |= held
        return found

    fewer, more = members(tmp_path), members(pristine)
    assert len(fewer) == 23 * 3 * 2 and fewer == {place: more[place] for place in fewer}


def test_a_sample_is_the_same_wherever_its_source_puts_it(tmp_path: Path) -> None:
    from PIL import Image

    from shards.reader import ViewSet

    held = {}
    for names in ("bcd", "abcd"):
        folder = tmp_path / names / "photos"
        folder.mkdir(parents=True)
        for name in names:
            pixels = np.random.default_rng(ord(name)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.png")
        flags = ("--data", f"folder:{folder}", "--image_size", "16", "--shard_size", "3", "--augment", "crop")
        extract("--teacher", "none", "--out", tmp_path / names / "cache", *flags)
        views = ViewSet(viewset_of(tmp_path / names / "cache"))
        held[names] = {key: views.storage.content(0, row, "jpg") for row, key in enumerate(views.plan.keys)}
    assert held["bcd"] == {key: held["abcd"][key] for key in "bcd"}


def test_no_document_holds_a_time_a_host_or_a_path_of_the_cache(pristine: Path) -> None:
    import socket

    for name, data in contents(pristine).items():
        if name.endswith(".json"):
            text = json.dumps(json.loads(data))
            assert str(pristine) not in text and socket.gethostname() not in text, name
            assert '"time' not in text and '"date' not in text, name
