"""hf://: a cache goes through a dataset of a server that answers as the hub does over HTTP, and comes back the same."""

import base64
import gc
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import caches
import huggingface_hub.constants
import pytest
from caches import command, contents

from shards.errors import BadInput
from shards.mirror import LOCAL_CACHE
from shards.stores import open_store
from shards.stores.base import StoreUnavailable

URL = "hf://datasets/me/cache/sub"


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repos: dict[str, dict[str, bytes]]
    fails: list[int]
    commits: list[list[str]]

    def log_message(self, *_: object) -> None:
        pass

    def _json(self, answer: object, status: int = 200, error: str | None = None) -> None:
        self._send(json.dumps(answer).encode(), status, error)

    def _send(self, body: bytes, status: int = 200, error: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.fails:
            return self._json({}, self.fails.pop())
        if match := re.fullmatch(r"/api/datasets/(\w+/\w+)/revision/main", path):
            known = match[1] in self.repos
            return self._json({"id": match[1], "sha": "1" * 40}, *(() if known else (404, "RepoNotFound")))
        if match := re.fullmatch(r"/api/datasets/(\w+/\w+)/tree/main/?(.*)", path):
            files, folder = self.repos.get(match[1]), match[2] and f"{match[2]}/"
            if files is None:
                return self._json({}, 404, "RepoNotFound")
            under = {name: data for name, data in files.items() if name.startswith(folder)}
            if not under:
                return self._json({}, 404, "EntryNotFound")
            return self._json(
                [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in under.items()]
            )
        match = re.fullmatch(r"/datasets/(\w+/\w+)/resolve/main/(.*)", path)
        content = self.repos.get(match[1], {}).get(match[2]) if match else None
        if content is None:
            return self._json({}, 404, "EntryNotFound")
        if part := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            return self._send(content[int(part[1]) : int(part[2]) + 1], 206)
        return self._send(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            asked = json.loads(body)
            assert asked.get("private") or asked.get("visibility") == "private"
            self.repos.setdefault(f"me/{asked['name']}", {})
            return self._json({"url": f"http://{self.headers['Host']}/datasets/me/{asked['name']}"})
        repo = path.split("/")[3] + "/" + path.split("/")[4]
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            return self._json(
                {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
            )
        files = [json.loads(line) for line in body.splitlines()]
        sent = {each["value"]["path"]: each["value"]["content"] for each in files if each["key"] == "file"}
        self.repos[repo] |= {name: base64.b64decode(content) for name, content in sent.items()}
        self.commits.append(sorted(sent))
        self._json(
            {
                "success": True,
                "commitOid": "1" * 40,
                "commitUrl": f"http://{self.headers['Host']}/datasets/{repo}/commit/1",
            }
        )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    handler = type("OneHub", (Hub,), {"repos": {}, "fails": [], "commits": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "2")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    yield handler
    server.shutdown()
    server.server_close()


def test_a_cache_goes_through_a_dataset(pristine: Path, hub: type[Hub], tmp_path: Path) -> None:
    command("shards", "push", pristine, URL).succeeds()
    assert hub.repos["me/cache"] == {f"sub/{name}": data for name, data in contents(pristine).items()}
    assert len(hub.commits) == 4  # files, then the manifest, of two sets
    assert [len(names) for names in hub.commits[1::2]] == [1, 1] and hub.commits[1][0].endswith("/viewset.json")
    command("shards", "push", pristine, URL).succeeds()
    assert len(hub.commits) == 4
    hub.fails.extend([503, 500])
    command("shards", "pull", URL, tmp_path / "new").succeeds()
    assert contents(tmp_path / "new") == contents(pristine) and hub.fails == []
    run = ("--run_dir", tmp_path / "run", "--student", "convnet:width=4,depth=2", "--epochs", "1", "--batch_size", "8")
    command("distill", "--shards", URL, *run, "--devices", "cpu").succeeds()


class Counted(bytes):
    """A file's content, counted while it is in memory."""

    now = most = 0

    def __init__(self, _: bytes) -> None:
        Counted.now += len(self)
        Counted.most = max(Counted.most, Counted.now)

    def __del__(self) -> None:
        Counted.now -= len(self)


@pytest.mark.slow
def test_a_push_holds_no_more_than_a_commit_and_a_file(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.stores.hugging_face._BYTES_A_COMMIT", 1000)
    sizes = {f"{number:03}": 300 for number in range(10)} | {"large": 1500} | {f"small{i:03}": 1 for i in range(100)}
    store = open_store(URL)
    store.make()
    store.put_all(list(sizes), lambda name: Counted(bytes(sizes[name])), dict.fromkeys(sizes, ""))
    assert {name: len(data) for name, data in hub.repos["me/cache"].items()} == {
        f"sub/{n}": s for n, s in sizes.items()
    }
    assert [len(names) for names in hub.commits] == [3, 3, 3, 1, 1, 64, 36]
    gc.collect()
    assert Counted.now == 0 and Counted.most == 1500 + 300  # the large one came when there was no room


def test_ranges_and_what_is_missing(pristine: Path, hub: type[Hub]) -> None:
    hub.repos["me/cache"] = {"sub/file": b"0123456789"}
    store = open_store(URL)
    assert bytes(store.get_range("file", 2, 5)) == b"23456" and store.sizes() == {"file": 10}
    with pytest.raises(Exception, match="half uploaded"):
        store.get_range("file", 8, 5)
    with pytest.raises(Exception, match="nothing: missing"):
        store.get("nothing")
    assert open_store("hf://datasets/me/cache/other").sizes() == {}
    with pytest.raises(StoreUnavailable, match=r"no such dataset or revision.*hf auth login"):
        open_store("hf://datasets/me/absent").sizes()
    hub.fails.extend([403])
    with pytest.raises(StoreUnavailable, match="HF_TOKEN"):
        store.get("file")


def test_what_a_dataset_is_not_for(hub: type[Hub], teacher: Path) -> None:
    command("extract", "--out", URL, "--teacher", f"run:{teacher}", *caches.SMALL).refuses("shards push CACHE", URL)
    with pytest.raises(BadInput, match="hf://datasets/OWNER/NAME"):
        open_store("hf://me/cache")


def test_offline_says_what_to_do(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "0.2")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    command("shards", "list", URL).refuses("cannot be reached", "HF_ENDPOINT")
