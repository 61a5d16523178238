"""Buckets (S3 and what speaks its language, Google's, Azure's) through obstore.

Credentials are those that the field has: the environment, for S3 also ~/.aws, or what the machine itself offers;
AWS_ENDPOINT_URL names another server than Amazon's.
"""

import contextlib
import functools
import math
import re
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import S3Store, from_url

from shards.command.sizes import seconds_in
from shards.errors import BadInput, Damaged, one_line
from shards.identity import sha256_of
from shards.stores.base import RETRY_S, Store, StoreUnavailable
from shards.stores.credentials import SERVER, SET, of_scheme
from shards.stores.failures import may_pass, remedy
from shards.stores.sending import PART_BYTES, Sending

_WRITE_ID, _SHA256 = "write-id", "sha256"
_PROBE = ".probe-"
"""Before the name of a file of five bytes, which stays where a command was killed while it asked; no listing has it."""
_ATTEMPTS = 20
"""Of a `create` that others' files are in the way of, each of which is gone when it is read."""
_LEAST_SILENCE_S = 30.0
"""Seconds for which a request may be silent (RETRY_S if more), and longer while it sends."""
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.1, 5.0
_RETRIES = 12
"""Of a request by obstore itself, some seconds in all."""
Result = TypeVar("Result")


class Bucket(Store):
    """One prefix of a bucket. What a PUT sends is hashed again by the server (S3's checksum SHA-256)."""

    _notes = True
    """Whether a file has attributes."""

    def __init__(
        self,
        url: str,
        connect: Callable[[float], Any],
        credentials: str = "",
        retry_s: float = 0.0,
        silence_s: float = _LEAST_SILENCE_S,
    ) -> None:
        """`connect` gives obstore's store whose requests may be silent so long; `credentials`: where they were read."""
        self.url, self._credentials, self._retry_s = url, credentials, retry_s
        connected = functools.cache(connect)
        self._store, self._has_answered, self._sending = connected(silence_s), False, Sending(connected, silence_s)
        self._bucket = "://".join((urlsplit(url).scheme, urlsplit(url).netloc))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file, a thousand names a request."""
        return {entry["path"]: entry["size"] for entry in self._listed(prefix)}

    def versions(self, prefix: str) -> dict[str, str]:
        """The ETag of every file, a thousand names a request."""
        return {entry["path"]: entry["e_tag"] or "" for entry in self._listed(prefix)}

    def _listed(self, prefix: str) -> list[Any]:
        pages = self._call(lambda: list(obstore.list(self._store, prefix or None)), prefix)
        found = (entry for page in pages for entry in page if not entry["path"].startswith(_PROBE))
        return sorted(found, key=lambda entry: entry["path"])

    def get(self, name: str) -> bytes:
        """The content of a file."""
        return bytes(self._call(lambda: obstore.get(self._store, name).bytes(), name))

    def get_range(self, name: str, offset: int, size: int) -> memoryview:
        """One request, which releases the interpreter lock."""
        if size == 0:
            return memoryview(b"")
        content = memoryview(self._call(lambda: self._part(name, offset, size), name))
        if len(content) != size:
            head = self._head(name)
            raise self.missing(name) if head is None else self.cut_off(name, offset + size, head.meta["size"])
        return content

    def _part(self, name: str, offset: int, size: int) -> Any:
        """The bytes of that range that there are."""
        try:
            return obstore.get_range(self._store, name, start=offset, length=size)
        except (BaseError, ValueError) as error:  # the file ends before the range begins, or before it ends
            if any(sign in str(error) for sign in ("<Code>InvalidRange<", "status code: 416", "Requested range")):
                return b""
            raise

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """By the attribute that `put` leaves beside the content."""
        head = self._head(name)
        return head is not None and head.meta["size"] == size and head.attributes.get(_SHA256) == sha256

    def put(self, name: str, content: bytes, sha256: str) -> None:
        """A large file goes in parts, several at a time, and appears when the last has arrived."""
        attributes = {_SHA256: sha256} if self._notes else None
        put = lambda store, parts: obstore.put(  # noqa: E731
            store, name, content, attributes=attributes, chunk_size=PART_BYTES, max_concurrency=parts
        )
        self._call(lambda: self._sending.send(put, len(content), in_parts=True), name)

    def create(self, name: str, content: bytes) -> bytes | None:
        """If-None-Match: *. A repeated request finds its own write-id, and is not beaten by itself."""
        write_id = uuid.uuid4().hex
        attributes = {_WRITE_ID: write_id, _SHA256: sha256_of(content)} if self._notes else None
        put = lambda store, _: obstore.put(store, name, content, mode="create", attributes=attributes)  # noqa: E731
        for _ in range(_ATTEMPTS):
            try:
                self._call(lambda: self._sending.send(put, len(content), in_parts=False), name)
                return None
            except AlreadyExistsError:
                head = self._head(name)
                if self._notes and head is not None and head.attributes.get(_WRITE_ID) == write_id:
                    return None
            with contextlib.suppress(Damaged):  # another removed it in this moment, or its own request came to nothing
                return self.get(name)
        raise StoreUnavailable(f"{self.named(name)}: says that it is there, and is not; run the same command again")

    def creates_only_if_absent(self) -> bool:
        """Creates a probe of its own twice."""
        probe = f"{_PROBE}{uuid.uuid4().hex}"
        try:
            return self.create(probe, b"first") is None and self.create(probe, b"second") == b"first"
        finally:
            self.remove(probe)

    def remove(self, name: str) -> None:
        """The file is gone."""
        with contextlib.suppress(FileNotFoundError):
            self._call(lambda: obstore.delete(self._store, name), None)

    def _head(self, name: str) -> Any:
        try:
            return self._call(lambda: obstore.get(self._store, name, options={"head": True}), None)
        except FileNotFoundError:
            return None

    def _call(self, call: Callable[[], Result], name: str | None) -> Result:
        """What `call` gives, which may be made again; a missing file is Damaged where `name` says which.

        What fails for the moment is repeated for RETRY_S: obstore itself gives up after _RETRIES, and makes
        none where a request might have been carried out.
        """
        end, pause_s = math.inf, _FIRST_PAUSE_S
        while True:
            try:
                result = call()
            except AlreadyExistsError:
                raise
            except (FileNotFoundError, NotFoundError) as error:
                if "NoSuchBucket" in str(error):
                    raise self._explained(error) from None
                if name is None:
                    raise
                raise self.missing(name) from None
            except BaseError as error:
                end = min(end, time.monotonic() + self._retry_s)
                if time.monotonic() >= end or not may_pass(error, self._has_answered):
                    raise self._explained(error) from None
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _MOST_PAUSE_S)
            else:
                self._has_answered = True
                return result

    def _explained(self, error: Exception) -> StoreUnavailable:
        scheme = urlsplit(self.url).scheme
        helps = remedy(error, self._credentials, SET.get(scheme, ""), SERVER.get(scheme, ""))
        return StoreUnavailable(f"{self._bucket}: {helps}")


def open_url(url: str) -> Bucket:
    """The bucket that `url` names."""
    parts = urlsplit(url)
    if not re.fullmatch(r"[\w.-]+", parts.netloc, re.ASCII):
        raise BadInput(f"{url}: names no bucket; give {parts.scheme}://BUCKET/FOLDER")
    if parts.query or parts.fragment or "," in parts.path:  # else two URLs would be one folder, or one of --shards two
        raise BadInput(f"{url}: no folder of a bucket may have , ? or # in its name here; give another")
    if re.search(r"=[\d.]+/?$", parts.path):
        raise BadInput(f"{url}: ends as a share of --shards does; give a folder whose name does not end in =NUMBER")
    seconds = seconds_in(RETRY_S, 120.0)
    retry: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=seconds)}
    options: Any = {"timeout": timedelta(days=30), "connect_timeout": timedelta(seconds=10)}
    settings, read_from = of_scheme(url)
    options["allow_http"] = settings.get("endpoint", "").startswith("http://")

    def connected(silence_s: float) -> Any:
        patient = options | {"read_timeout": timedelta(seconds=silence_s)}
        if parts.scheme == "s3":
            return _amazon(parts.netloc, parts.path.strip("/"), settings, retry, patient)
        return from_url(url, retry_config=retry, client_options=patient)

    try:
        return Bucket(url, connected, read_from, seconds, max(_LEAST_SILENCE_S, seconds))
    except (BaseError, ValueError) as error:  # a setting makes no sense, or lacks
        said = one_line(error).partition(" Debug source")[0]
        raise BadInput(f"{url}: cannot be asked ({said}); {SET[parts.scheme]}") from None


def _amazon(bucket: str, prefix: str, settings: dict[str, str], retry: Any, options: Any) -> S3Store:
    """The store of `bucket`, whose keys are among the `settings`, or given by the machine."""
    config: Any = {"region": "us-east-1", "checksum_algorithm": "sha256", **settings}
    keys: Any = None
    if "access_key_id" in config and "secret_access_key" in config:
        keys = {name: config.pop(name) for name in ("access_key_id", "secret_access_key")}
        keys |= {"token": config.pop("session_token", None), "expires_at": None}
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        retry_config=retry,
        client_options=options,
        # given as settings, keys of a file would be sent with the token that obstore finds in the environment
        credential_provider=keys and (lambda: keys),
    )
