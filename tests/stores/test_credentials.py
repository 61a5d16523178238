"""Credentials that a real server refuses, by IAM and by their signatures: one line that says where they were read."""

from pathlib import Path

import boto3
import pytest
from caches import command
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from s3_server import Server

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
