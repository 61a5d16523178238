"""Credentials that a real server refuses, by IAM and by their signatures: one line that says where they were read."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from caches import command
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from s3_server import Server

from shards.errors import Damaged
from shards.stores import open_store

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def keys(s3: Server, s3_ports: tuple[int, int, object], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The key and the secret of a user who may do nothing; from now on the server checks both."""
    endpoint = f"http://127.0.0.1:{s3_ports[1]}"
    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1")
    name = s3.bucket
    iam.create_user(UserName=name)
    found = iam.create_access_key(UserName=name)["AccessKey"]
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    return found["AccessKeyId"], found["SecretAccessKey"]


def test_what_the_server_refuses_is_one_line_that_says_what_was_read(
    s3: Server, keys: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown key, a wrong secret, and a user without permission; of the environment and of ~/.aws."""
    words = f"s3://{s3.bucket}: refuses the credentials read from AWS_ACCESS_KEY_ID in the environment; set AWS_"
    for pair in (("unknown", "secret"), (keys[0], "wrong"), keys):
        for name, value in zip(KEYS, pair, strict=True):
            monkeypatch.setenv(name, value)
        found = command("shards", "list", s3.url)
        found.refuses(words)
        assert keys[1] not in found.err
    command("extract", "--teacher", "none", "--data", "digits", "--out", s3.url, "--devices", "cpu").refuses(words)
    for name in KEYS:
        monkeypatch.delenv(name)
    (tmp_path / "absent").write_text("[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    command("shards", "list", s3.url).refuses(
        f"refuses the credentials read from the profile mine of {tmp_path}/absent"
    )


def test_who_has_no_credentials_or_a_wrong_clock_is_told_so(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, in one line: also where it would begin to write."""
    typed = ("extract", "--teacher", "none", "--data", "digits", "--out", s3.url, "--devices", "cpu")
    commands = (("shards", "list", s3.url), (*typed, "--launch", "shared"))
    s3.faults.always += [("skew", method, "") for method in ("GET", "PUT", "HEAD")]
    for words in commands:
        command(*words).refuses(f"s3://{s3.bucket}: this machine's clock is wrong", "timedatectl")
    s3.faults.always.clear()
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    for words in commands:
        command(*words).refuses("no credentials here; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")


def test_a_file_of_credentials_that_is_no_text_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    (tmp_path / "credentials").write_bytes(b"[default]\naws_access_key_id = \xff\xfe\n")
    command("shards", "list", "s3://bucket/cache").refuses(
        f"{tmp_path}/credentials: cannot be read (", "mend it, or set AWS_SHARED_CREDENTIALS_FILE"
    )


def test_a_line_break_in_a_key_is_no_part_of_it(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its end, as a file of secrets has it; within it no request can carry the key."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key\n")
    assert open_store(s3.url).sizes() == {}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one\ntwo")
    command("shards", "list", s3.url).refuses("AWS_ACCESS_KEY_ID in the environment: holds a line break")


def test_a_token_goes_with_the_keys_that_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the environment is not sent with the keys of a file, one of the file is."""
    tokens = []

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(
                (self.headers["Authorization"].split("/")[0].split("=")[1], self.headers["x-amz-security-token"])
            )
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever).start()
    try:
        for name in KEYS:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_SESSION_TOKEN", "stray")
        of_file = "[default]\naws_access_key_id = file\naws_secret_access_key = secret\n"
        for content in (of_file, f"{of_file}aws_session_token = own\n"):
            (tmp_path / "credentials").write_text(content)
            with pytest.raises(Damaged):
                open_store("s3://bucket/cache").get("absent")
        for name in KEYS:
            monkeypatch.setenv(name, "environment")
        with pytest.raises(Damaged):
            open_store("s3://bucket/cache").get("absent")
    finally:
        server.shutdown()
        server.server_close()
    assert tokens == [("file", None), ("file", "own"), ("environment", "stray")]


def test_a_certificate_that_is_not_trusted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As none is where this machine's clock is years away."""
    certificate = tmp_path / "certificate.pem"
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", certificate)
    subprocess.run(["openssl", *words, "-out", tmp_path / "public.pem"], check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "public.pem", certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in zip(KEYS, ("key", "secret"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("TEACHER_SHARDS_RETRY_S", "1")
    try:
        command("shards", "list", "s3://bucket/cache").refuses(
            "s3://bucket", "not trusted here; check this machine's clock"
        )
    finally:
        server.shutdown()
        server.server_close()
