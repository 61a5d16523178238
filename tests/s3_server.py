"""A real S3 server over HTTP (moto's), and a proxy before it that fails as networks and stores do."""

import collections
import http.client
import http.server
import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

ERROR = "<Error><Code>{}</Code><Message>as a store says it</Message></Error>"
PIECES, PAUSE_S = 8, 0.3


@dataclass
class Faults:
    """What the proxy does to the next requests whose method and path fit; each fault is used up by one request."""

    queue: list[tuple[str, str, str]] = field(default_factory=list)
    """(kind, method, part of the path); kinds: 500, 503, 403, skew, taken (412), wrong, lost (done: 500); reset (in the
    middle of what is sent, nothing is done), cut (done; half of the answer, or none), silent (nothing happens), slow
    (what is sent and fetched comes in PIECES, with PAUSE_S between them)."""
    always: list[tuple[str, str, str]] = field(default_factory=list)
    ignores_conditions: bool = False
    """The store overlooks If-None-Match."""
    requests: collections.Counter[str] = field(default_factory=collections.Counter)
    refused: list[str] = field(default_factory=list)
    """Paths of the requests that a fault of `always` met."""
    fetched: collections.Counter[str] = field(default_factory=collections.Counter)
    """GET requests by path that were answered to the end."""
    bytes_out: int = 0
    """Bytes of bodies that were sent to the client in answer to GET."""
    latency_s: float = 0.0
    """Before each answer, any number at a time."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str) -> str | None:
        with self.lock:
            for kind, verb, part in self.always:
                if verb == method and part in path:
                    self.refused.append(path)
                    return kind
            for number, (kind, verb, part) in enumerate(self.queue):
                if verb == method and part in path:
                    del self.queue[number]
                    return kind
        return None


@dataclass
class Server:
    """A bucket behind the proxy."""

    endpoint: str
    bucket: str
    faults: Faults

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/caches"


class _Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults
    upstream: int

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        faults, length = self.faults, int(self.headers.get("Content-Length") or 0)
        with faults.lock:
            faults.requests[self.command] += 1
        time.sleep(faults.latency_s)
        kind = faults.take(self.command, self.path)
        if kind == "reset":
            self.rfile.read(length // 2)
            return self._reset()
        if kind == "silent":
            while self.connection.recv(1 << 16):  # until the client has enough
                pass
            return self._reset()
        body = b"".join(self.rfile.read(size) for size in self._pieces(kind, length))
        codes = {"500": (500, "InternalError"), "503": (503, "SlowDown"), "403": (403, "AccessDenied")}
        codes["skew"] = (403, "RequestTimeTooSkewed")
        codes["taken"] = (412, "PreconditionFailed")
        if kind in codes:
            return self._send(codes[kind][0], {}, ERROR.format(codes[kind][1]).encode())
        headers = dict(self.headers)
        if faults.ignores_conditions:
            headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if kind == "lost":
            return self._send(500, {}, ERROR.format("InternalError").encode())
        if kind == "wrong" and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        skipped = ("content-length", "transfer-encoding", "connection", "date", "server")
        kept = {name: value for name, value in response.getheaders() if name.lower() not in skipped}
        if kind == "cut" and not content:
            return self._reset()
        announced = response.getheader("Content-Length") if self.command == "HEAD" else None
        if self.command == "GET":
            with faults.lock:
                faults.bytes_out += len(content)
        self._send(response.status, kept, content, cut=kind == "cut", length=announced, kind=kind)
        if self.command == "GET" and kind != "cut":
            with faults.lock:
                faults.fetched[self.path.partition("?")[0]] += 1

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815

    @staticmethod
    def _pieces(kind: str | None, length: int) -> Iterator[int]:
        """The bytes that are read or sent at a time."""
        most = -(-length // PIECES) if kind == "slow" else length
        for left in range(length, 0, -most) if length else ():
            if kind == "slow":
                time.sleep(PAUSE_S)
            yield min(most, left)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        content: bytes,
        cut: bool = False,
        length: str | None = None,
        kind: str | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        sent = 0
        for size in self._pieces(kind, len(content) // 2 if cut else len(content)):
            self.wfile.write(content[sent : sent + size])
            sent += size
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass  # connections that are cut are what this server is for


@contextmanager
def served() -> Iterator[tuple[int, int, Faults]]:
    """The ports of the proxy and of the server behind it."""
    from moto.server import ThreadedMotoServer  # a second and more, which workers without a bucket need not spend

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    faults = Faults()
    handler = type("Proxy", (_Proxy,), {"faults": faults, "upstream": moto.get_host_and_port()[1]})
    proxy = _Quiet(("127.0.0.1", 0), handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy.server_address[1], moto.get_host_and_port()[1], faults
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()


def make_bucket(port: int) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    return name


@pytest.fixture(scope="session")
def s3_ports() -> Iterator[tuple[int, int, Faults]]:
    with served() as ports:
        yield ports


@pytest.fixture
def s3(s3_ports: tuple[int, int, Faults], monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[Server]:
    """A new bucket; every setting of this machine that could point elsewhere is out of the way."""
    port, upstream, faults = s3_ports
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, f"{tmp_path}/absent")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "3")
    faults.queue.clear()
    faults.always.clear()
    faults.requests.clear()
    faults.fetched.clear()
    faults.refused.clear()
    faults.ignores_conditions, faults.bytes_out, faults.latency_s = False, 0, 0.0
    yield Server(f"http://127.0.0.1:{port}", make_bucket(upstream), faults)
