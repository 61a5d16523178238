"""Codebooks: their error is stated of samples that trained none of them; where there are none, this is said."""

from pathlib import Path

import caches
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save, save_file

from distill.bill.alternatives import _error
from extract.unseen import Unseen, read_unseen
from shards.cache import ListedViewSet
from shards.decode import codec_of, read_decoded, spread
from shards.documents import read_commit
from shards.errors import Damaged
from shards.layout import CALIBRATION
from shards.listing import measured_on
from shards.page.sets import cards_of
from shards.page.wrong import look_at
from shards.reader import TargetSet, ViewSet
from tests.extract.test_data2vec2_writer import write_checkpoint

pytest.importorskip("faiss")
BOOKS = ("--codec", "pq:8,centroids=64")
"""Of 10 tokens a sample 256 samples are 40 vectors a centroid: the first 256 train them, and no more."""
LEARNT = "the first samples, which trained its codebooks"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("data2vec2") / "tiny.pt", depth=2, average_top_k_layers=2)


def flags(checkpoint: Path, cache: Path, limit: int = 336) -> tuple[str | Path, ...]:
    size = ("--data", "digits", "--limit", str(limit), "--shard_size", "32", "--image_size", "12", "--devices", "cpu")
    return ("--teacher", "data2vec2", "--weights", checkpoint, "--out", cache, *size)


def test_it_is_of_samples_that_trained_no_codebook(checkpoint: Path, tmp_path: Path) -> None:
    printed = caches.extract(*flags(checkpoint, tmp_path), *BOOKS).out
    caches.extract(*flags(checkpoint, tmp_path), "--codec", "float32")
    coded, exact = (TargetSet(caches.targetset_of(tmp_path, name)) for name in ("pq8", "float32"))
    codec = codec_of(coded)
    rows = torch.from_numpy(exact.read(0, np.arange(336))["values"])
    assert torch.equal(codec.calibrate(rows[:256]).state()["centroids"], codec.state()["centroids"])
    first = read_commit(coded.folder, 0, 0)
    assert first is not None and first.codec_error == codec.error(rows[:32])
    # of three shards behind the 256th sample, whose last has 16, 10 at even distances each
    shards = ((256, 32), (288, 32), (320, 16))
    unseen = [start + (2 * number + 1) * size // 20 for start, size in shards for number in range(10)]
    stored = read_decoded(coded, codec, 0, np.array(unseen))
    cosines = torch.nn.functional.cosine_similarity(stored.double(), rows[unseen].double(), dim=-1)
    stated = coded.manifest.codec_error
    assert stated["cosine_mean"] == pytest.approx(cosines.mean().item(), abs=1e-6)
    assert stated["variance_lost"] > 1.02 * first.codec_error["variance_lost"]
    assert coded.manifest.unseen == 30
    assert f"codec error on 30 samples that trained no codebook: cosine_mean {stated['cosine_mean']:g}" in printed
    assert "on 30 samples that trained no codebook" in caches.command("shards", "info", tmp_path).succeeds().out
    assert _error(coded.manifest) == f"{stated['cosine_mean']:.5f}"
    assert exact.manifest.unseen is None and measured_on(exact.manifest) == "the first samples"
    cosines = torch.nn.functional.cosine_similarity(read_decoded(coded, codec, 0, np.arange(336)), rows, dim=-1).amin(1)
    looked = spread(336, 256)[spread(256, 64)].tolist()
    worst = min(looked, key=lambda sample: float(cosines[sample]))
    told = (
        f"worst codec error of 64 samples in 11 of 11 shards: cosine {cosines[worst]:.4g} (beside {exact.folder.name}"
    )
    examples = {each.what: each.examples for each in look_at(ListedViewSet(caches.viewset_of(tmp_path))).findings}
    (named,) = (named for what, named in examples.items() if what.startswith(told))
    assert named.startswith(f"{ViewSet(caches.viewset_of(tmp_path)).plan.keys[worst]} (")
    caches.command("shards", "verify", tmp_path).succeeds()


@pytest.mark.slow
def test_kept_tokens_and_further_views_have_the_same(checkpoint: Path, tmp_path: Path) -> None:
    caches.extract(*flags(checkpoint, tmp_path), *BOOKS)
    before = TargetSet(caches.targetset_of(tmp_path)).manifest
    statistics = (before.codec_error, before.unseen)
    caches.extract(*flags(checkpoint, tmp_path), *BOOKS, "--views", "2")
    grown = TargetSet(caches.targetset_of(tmp_path)).manifest
    assert grown.num_views == 2 and (grown.codec_error, grown.unseen) == statistics
    caches.extract(*flags(checkpoint, tmp_path), *BOOKS, "--keep_tokens", "4")
    kept = TargetSet(caches.targetset_of(tmp_path, "4tokens")).manifest
    assert (kept.codec_error, kept.unseen) == statistics  # all tokens of them


def test_where_all_samples_train_it_is_said(checkpoint: Path, tmp_path: Path) -> None:
    printed = caches.extract(*flags(checkpoint, tmp_path, 96), *BOOKS).out
    manifest = TargetSet(caches.targetset_of(tmp_path)).manifest
    first = read_commit(caches.targetset_of(tmp_path), 0, 0)
    assert first is not None and manifest.codec_error == first.codec_error and manifest.unseen is None
    assert f"codec error on {LEARNT}: cosine_mean" in printed
    assert LEARNT in caches.command("shards", "info", tmp_path).succeeds().out
    assert _error(manifest).startswith("<=")
    (card,) = cards_of(ListedViewSet(caches.viewset_of(tmp_path))).targetsets
    assert card.codec_error.endswith(LEARNT)
    told = [each.what for each in look_at(ListedViewSet(caches.viewset_of(tmp_path))).findings]
    assert [what for what in told if what.startswith("codec error as extract measured it") and what.endswith(LEARNT)]


@pytest.mark.slow
def test_a_set_of_before_stays_as_it_is(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun when nothing was measured beside the codebooks; finished, asked for again and grown by this revision."""
    with monkeypatch.context() as before:
        before.setattr("extract.calibrate._unseen", lambda *_: None)
        caches.extract(*flags(checkpoint, tmp_path), *BOOKS)
    folder, written = caches.targetset_of(tmp_path), caches.contents(tmp_path)
    assert (folder / CALIBRATION).read_bytes() == save(load_file(folder / CALIBRATION))
    assert LEARNT in caches.extract(*flags(checkpoint, tmp_path), *BOOKS).out
    assert caches.contents(tmp_path) == written
    for name in ("targetset.json", "commits/v00-00002.json"):
        (folder / name).unlink()
    caches.extract(*flags(checkpoint, tmp_path), *BOOKS)
    assert caches.contents(tmp_path) == written
    caches.extract(*flags(checkpoint, tmp_path), *BOOKS, "--views", "2")
    manifest = TargetSet(folder).manifest
    assert manifest.unseen is None and measured_on(manifest) == LEARNT


@pytest.mark.slow
def test_skipped_samples_push_the_unseen_ones_back(checkpoint: Path, tmp_path: Path) -> None:
    """Of the first 258 two cannot be read, so 258 have trained; what is behind them is measured."""
    drawn, source = np.random.default_rng(0), tmp_path / "images/train/a"
    source.mkdir(parents=True)
    for number in range(260):
        path = source / f"{number:03}.png"
        Image.fromarray(drawn.integers(0, 256, (12, 12, 3), np.uint8)).save(path)
        if number in (3, 70):
            path.write_bytes(path.read_bytes()[:60])
    teacher = ("--teacher", "data2vec2", "--weights", checkpoint, "--out", tmp_path / "cache", "--devices", "cpu")
    data = ("--data", f"folder:{tmp_path}/images", "--shard_size", "130", "--view", "resize:size=12,format=png")
    caches.extract(*teacher, *data, "--on_error", "skip", *BOOKS)
    caches.extract(*teacher, "--codec", "float32", "--on_error", "skip")
    coded, exact = (TargetSet(caches.targetset_of(tmp_path / "cache", name)) for name in ("pq8", "float32"))
    rows = torch.from_numpy(exact.read(0, np.array([258, 259]))["values"])
    assert coded.manifest.unseen == 2
    assert coded.manifest.codec_error == codec_of(coded).error(rows)


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "[]",
        "{",
        '{"samples": 0, "error": {}}',
        '{"samples": 3}',
        '{"samples": 3, "error": {"cosine_mean": NaN}}',
        "[" * 5000,
    ],
)
def test_what_is_no_error_is_refused_in_one_line(tmp_path: Path, kept: str) -> None:
    path = tmp_path / CALIBRATION
    save_file({"errors": torch.zeros(1)}, path, {"unseen": kept})
    with pytest.raises(Damaged, match="is damaged"):
        read_unseen(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(Damaged, match="is damaged"):
        read_unseen(path)


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    path, kept = tmp_path / CALIBRATION, Unseen(32, {"cosine_mean": 0.9702, "variance_lost": 0.07})
    save_file({"errors": torch.zeros(1)}, path, kept.metadata())
    assert read_unseen(path) == kept
    save_file({"errors": torch.zeros(1)}, path)
    assert read_unseen(path) is None
