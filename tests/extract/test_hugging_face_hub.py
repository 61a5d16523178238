"""`hf:ID`: a model of the hub is downloaded once; a hub that is out of reach or gated says what to do."""

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from test_hugging_face_errors import without_weights

from extract.teachers import load_teacher
from shards.errors import SourceUnavailable
from tests.extract.test_hugging_face_teachers import write_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A hub on this machine with the files of tmp_path/served as org/tiny, and an empty cache."""
    state: dict[str, Any] = {"gated": False, "sent": []}
    served = tmp_path / "served"

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = self.answer()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def answer(self) -> tuple[int, bytes, dict[str, str]]:
            if not self.path.startswith(("/api/models/org/tiny", "/org/tiny/")):
                return 401, b"", {"X-Error-Code": "RepoNotFound"}
            files = {path.name: path.read_bytes() for path in sorted(served.iterdir())}
            name = self.path.rpartition("/")[2]
            if "/tree/" in self.path:
                listed = [
                    {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for path, data in files.items()
                ]
                return 200, json.dumps(listed).encode(), {"Content-Type": "application/json"}
            if "/resolve/" not in self.path:
                info = {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
                return 200, json.dumps(info).encode(), {"Content-Type": "application/json"}
            if state["gated"]:
                return 403, b"", {"X-Error-Code": "GatedRepo"}
            if self.command == "GET":
                state["sent"].append(name)
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            return 200, files[name], {"ETag": etag, "X-Repo-Commit": COMMIT}

        def log_message(self, format: str, *values: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield state
        server.shutdown()


def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_model_of_the_hub_is_downloaded_once(
    tmp_path: Path, hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    write_model(tmp_path / "served")
    here = load_teacher(f"hf:{tmp_path / 'served'}")
    state = load_file(tmp_path / "served" / "model.safetensors")
    torch.save(state, tmp_path / "served" / "pytorch_model.bin")
    if weights == "pytorch_model.bin":
        without_weights(tmp_path / "served")
    (tmp_path / "served" / "tf_model.h5").write_bytes(b"nobody's")
    there = load_teacher("hf:org/tiny")
    assert sorted(hub["sent"]) == sorted(["config.json", "preprocessor_config.json", weights])
    assert (there.name, there.weights_sha256) == ("hf-org--tiny", here.weights_sha256)
    out_of_reach(monkeypatch)
    assert load_teacher("hf:org/tiny").weights_sha256 == here.weights_sha256


def test_out_of_reach_says_what_to_download(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"out of reach .* lacks org/tiny: go online, or download its config.json, .*--teacher hf:DIR$"
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(SourceUnavailable, match=message):
            load_teacher("hf:org/tiny")
    out_of_reach(monkeypatch)
    with pytest.raises(SourceUnavailable, match=message):
        load_teacher("hf:org/tiny")


def test_gated_and_unknown_models_say_how_to_get_in(tmp_path: Path, hub: dict[str, Any]) -> None:
    write_model(tmp_path / "served")
    hub["gated"] = True
    for name in ("org/tiny", "org/nobody"):
        with pytest.raises(
            SourceUnavailable, match=rf"terms at https://huggingface.co/{name}, then run `hf auth login`"
        ):
            load_teacher(f"hf:{name}")
