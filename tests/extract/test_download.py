"""Weights from a URL: cached, checked against the hash in their name, and refused in one line when out of reach."""

import functools
import hashlib
import http.server
import threading

import pytest
import torch

from extract.teachers import load_teacher
from extract.teachers.base import sha256_of_state
from shards.errors import BadInput, SourceUnavailable
from tests.extract.test_teachers import resnet


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine for the files of tmp_path/served, and an empty torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.slow
def test_weights_from_a_url_are_cached_and_checked(server, tmp_path):
    folder, address = server
    torch.save(resnet().state_dict(), folder / "plain.pth")
    digest = hashlib.sha256((folder / "plain.pth").read_bytes()).hexdigest()
    good, bad = f"good-{digest[:8]}.pth", "bad-0123abcd.pth"
    for name in (good, bad):
        (folder / name).write_bytes((folder / "plain.pth").read_bytes())
    expected = sha256_of_state(resnet().state_dict())
    assert load_teacher("resnet18", f"{address}/{good}").weights_sha256 == expected
    with pytest.raises(SourceUnavailable, match=r"bad-0123abcd.pth: cannot be downloaded here \(invalid hash"):
        load_teacher("resnet18", f"{address}/{bad}")
    with pytest.raises(SourceUnavailable, match=r"none.pth: cannot be downloaded here .*404.*--weights FILE"):
        load_teacher("resnet18", f"{address}/none.pth")

    # two URLs that end alike are two files, and what is in the cache needs no network
    (folder / "other").mkdir()
    torch.save(resnet(seed=2).state_dict(), folder / "other" / "plain.pth")
    urls = [f"{address}/plain.pth", f"{address}/other/plain.pth"]
    identities = [load_teacher("resnet18", url).weights_sha256 for url in urls]
    assert identities == [expected, sha256_of_state(resnet(seed=2).state_dict())]
    for path in folder.rglob("*.pth"):
        path.unlink()
    assert [load_teacher("resnet18", url).weights_sha256 for url in urls] == identities

    cached = tmp_path / "hub" / "hub" / "checkpoints" / good
    data = bytearray(cached.read_bytes())
    data[len(data) // 2] ^= 1
    cached.write_bytes(data)
    with pytest.raises(BadInput, match=f"{good}: expected a SHA-256 that begins {digest[:8]}, found .*; remove it"):
        load_teacher("resnet18", f"{address}/{good}")


@pytest.mark.parametrize("weights", [None, "IMAGENET1K_V1"])
def test_offline_default_weights_name_the_url(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: refused at once
    with pytest.raises(SourceUnavailable, match=r"^https://\S+/resnet18-f37072fd.pth: .*--weights FILE$") as error:
        load_teacher("resnet18", weights)
    assert "\n" not in str(error.value)
