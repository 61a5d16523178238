"""Weights from the network, kept in torch's hub cache: quick to fail, checked against the hash in their name."""

import hashlib
import http.client
import socket
import sys
import urllib.error
from pathlib import Path
from urllib.parse import urlparse

import torch.hub

from shards.errors import BadInput, SourceUnavailable
from shards.identity import sha256_of_file

_TIMEOUT_S = 15.0
_SCHEMES = ("http", "https")
# ValueError is a URL that cannot be one, RuntimeError is torch.hub's for a wrong hash; a full disk is none of these
_FAILURES = (
    urllib.error.URLError,
    TimeoutError,
    ConnectionError,
    http.client.HTTPException,
    ValueError,
    RuntimeError,
)


def located(weights: str) -> Path:
    """The file that --weights means: a path, or what `download` makes of a URL."""
    return download(weights) if "://" in weights else Path(weights).expanduser()


def download(url: str) -> Path:
    """The file behind `url` in torch's hub cache ($TORCH_HOME), downloaded unless it is there.

    A name like resnet18-f37072fd.pth carries the first digits of its SHA-256, which are checked, also for a file that
    was there. Raises SourceUnavailable when the download fails, BadInput for a URL of another kind.
    """
    if urlparse(url).scheme not in _SCHEMES:
        raise BadInput(f"{url}: expected an http or https URL or the path of a file; give --weights FILE")
    name = Path(urlparse(url).path).name or "weights"
    in_name = torch.hub.HASH_REGEX.search(name)
    if in_name is None:  # two URLs may end alike: without a hash in it, the name alone says too little
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, path, in_name and in_name[1])
    if in_name and not (found := sha256_of_file(path)).startswith(in_name[1]):
        raise BadInput(f"{path}: expected a SHA-256 that begins {in_name[1]}, found {found}; remove it and run again")
    return path


def _fetch(url: str, path: Path, hash_prefix: str | None) -> None:
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)  # torch.hub passes none, and a silent network would hang for ever
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=sys.stderr.isatty())
    except _FAILURES as error:
        raise SourceUnavailable(
            f"{url}: cannot be downloaded here ({error}); download it elsewhere and give --weights FILE"
        ) from error
    finally:
        socket.setdefaulttimeout(previous)
