"""Credentials of buckets: where they are read, and what to set where there are none or a bucket refuses them."""

import configparser
import os
import re
import socket
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from shards.errors import BadInput, one_line
from shards.stores.base import StoreUnavailable

SET = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE of ~/.aws (of a store that is not Amazon's "
    "AWS_ENDPOINT_URL too)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the JSON file of an account",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""What the user does, by the URL's scheme."""
SERVER = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}
"""Which names another server than the usual one."""
_MACHINE = "this machine (its role)"


class Credentials(NamedTuple):
    """How a bucket is asked: settings as obstore names them, and where the credentials among them were read."""

    settings: dict[str, str]
    read_from: str


def of_scheme(url: str) -> Credentials:
    """Those for `url`; BadInput or StoreUnavailable where there are none. Obstore itself reads Google's and Azure's."""
    scheme = urlsplit(url).scheme
    found = _of_amazon() if scheme == "s3" else _of_others(scheme)
    endpoint = found.settings.get("endpoint")
    if endpoint is not None and not _is_address(endpoint):
        raise BadInput(f"{SERVER[scheme]} {endpoint}: expected the address of a server, as https://HOST")
    given = "access_key_id" in found.settings or any(re.fullmatch(_GIVEN[scheme], name) for name in os.environ)
    if not given and not (scheme == "gs" and Path(_OF_GCLOUD).expanduser().exists()):
        _check_machine(url)
    return found


def _of_others(scheme: str) -> Credentials:
    """The server alone, if another is named: obstore itself reads the environment."""
    endpoint = os.environ.get(SERVER[scheme])
    return Credentials({"endpoint": endpoint} if endpoint else {}, f"the environment ({_OTHERS[scheme]})")


def _is_address(endpoint: str) -> bool:
    """Whether it names a server; obstore ends the process for one that does not."""
    try:
        parts = urlsplit(endpoint)
        return (
            parts.scheme in ("http", "https")
            and parts.port != 0
            and re.fullmatch(_HOST, parts.hostname or "") is not None
        )
    except ValueError:  # of a port that is none
        return False


_HOST = re.compile(r"[\w.:-]+", re.ASCII)
_OTHERS = {"gs": "GOOGLE_*", "az": "AZURE_*"}
_GIVEN = {
    "s3": r"AWS_(WEB_IDENTITY_TOKEN_FILE|CONTAINER_CREDENTIALS_\w+_URI|SKIP_SIGNATURE)",
    "gs": r"GOOGLE_(APPLICATION_CREDENTIALS|SERVICE_ACCOUNT\w*|BEARER_TOKEN|SKIP_SIGNATURE)",
    "az": r"AZURE_\w*(KEY|SAS\w*|TOKEN\w*|SECRET|CLI|EMULATOR|SIGNATURE)|(MSI|IDENTITY)_ENDPOINT",
}
"""Variables that give credentials, beside Amazon's pair of keys; obstore itself reads these."""
_OF_GCLOUD = "~/.config/gcloud/application_default_credentials.json"


def _check_machine(url: str) -> None:
    """Raises StoreUnavailable where this machine offers no credentials, which obstore would ask for minutes."""
    server = urlsplit(os.environ.get("AWS_METADATA_ENDPOINT", "http://169.254.169.254"))
    try:
        socket.create_connection((server.hostname, server.port or 80), timeout=2).close()
    except OSError:
        raise StoreUnavailable(f"{url}: no credentials here; {SET[urlsplit(url).scheme]}") from None


def _of_amazon() -> Credentials:
    """What ~/.aws and the environment say, the environment first; obstore itself reads the environment alone."""
    environment = {
        name: os.environ[f"AWS_{name.upper()}"] for name in _FROM_ENVIRONMENT if f"AWS_{name.upper()}" in os.environ
    }
    settings = {_FROM_ENVIRONMENT[name]: value.strip() for name, value in environment.items() if value.strip()}
    for name, value in settings.items():
        if not value.isprintable():  # obstore ends the process for a key that no header can hold
            raise BadInput(f"AWS_{name.upper()} in the environment: holds a line break or the like; set it anew")
    if "access_key_id" not in settings:  # a token without its keys is a stray one: a pair of keys comes from one place
        settings = {name: value for name, value in settings.items() if name in ("region", "endpoint")}
    read_from = "AWS_ACCESS_KEY_ID in the environment" if "access_key_id" in settings else _MACHINE
    profile, found = os.environ.get("AWS_PROFILE", "default"), False
    for variable, default, section in (
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", profile),
        ("AWS_CONFIG_FILE", "~/.aws/config", profile if profile == "default" else f"profile {profile}"),
    ):
        path = Path(os.environ.get(variable, default)).expanduser()
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: cannot be read ({one_line(error)}); mend it, or set {variable}") from None
        if parser.has_section(section):
            found = True
            given = {_FROM_FILES[name]: value for name, value in parser.items(section) if name in _FROM_FILES}
            if "access_key_id" in settings:
                given = {name: value for name, value in given.items() if name in ("region", "endpoint")}
            elif "access_key_id" in given:
                read_from = f"the profile {profile} of {path}"
            settings = given | settings
    if not found and profile != "default":
        raise BadInput(f"AWS_PROFILE {profile}: no such profile in ~/.aws/credentials or ~/.aws/config; add it there")
    return Credentials(settings, read_from)


_FROM_ENVIRONMENT = {"access_key_id": "access_key_id", "secret_access_key": "secret_access_key"}
_FROM_ENVIRONMENT |= {"session_token": "session_token", "region": "region", "default_region": "region"}
_FROM_ENVIRONMENT |= {"endpoint_url": "endpoint", "endpoint_url_s3": "endpoint"}
_FROM_FILES = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key"}
_FROM_FILES |= {"aws_session_token": "session_token", "region": "region", "endpoint_url": "endpoint"}
