"""A target set of kept tokens through every command that looks at one."""

import io
import tarfile

import caches
import numpy as np
import pytest
from PIL import Image

from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet
from tests.extract.test_data2vec2_writer import write_checkpoint


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    weights = write_checkpoint(folder / "tiny.pt", depth=2, average_top_k_layers=2)
    teacher = ("--teacher", "data2vec2", "--weights", weights, "--out", folder / "cache", *caches.DIGITS)
    caches.extract(*teacher, "--devices", "cpu", "--keep_tokens", "4")
    return folder / "cache"


def test_list_info_verify_and_view(kept, tmp_path):
    listed = caches.command("shards", "list", kept).succeeds().out
    assert "4tokens" in listed
    assert "4 of 10 tokens kept" in caches.command("shards", "info", kept).succeeds().out
    caches.command("shards", "verify", kept, "--recompute", "8").succeeds()
    caches.command("shards", "view", kept, "--output", tmp_path / "sheet.png", "--num", "4").succeeds()
    assert min(Image.open(tmp_path / "sheet.png").size) > 12


def test_exported_rows_stand_beside_their_positions(kept, tmp_path):
    caches.command("shards", "export", kept, "--output", tmp_path / "tars").succeeds()
    targetset = TargetSet(caches.targetset_of(kept))
    decoded = read_decoded(targetset, codec_of(targetset), 0, np.arange(caches.NUM_SAMPLES))
    with tarfile.open(next((tmp_path / "tars").glob("*00000.tar"))) as tar:
        first = sorted(name for name in tar.getnames() if name.endswith(".rows.npy"))[0]
        rows = np.load(io.BytesIO(tar.extractfile(first).read()))
        positions = np.load(io.BytesIO(tar.extractfile(first.replace("rows", "positions")).read()))
    matches = [np.array_equal(rows, row) for row in decoded.rows.numpy()]
    assert sum(matches) == 1 and np.array_equal(positions, decoded.positions[matches.index(True)])
