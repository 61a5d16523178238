"""Hugging Face datasets: hf://datasets/OWNER/NAME[@REVISION][/FOLDER], read by plain HTTP and pushed in commits.

A push makes the dataset, private, where there is none. There is no conditional write, so that nothing else writes here.
"""

import hashlib
import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx

from shards.command.sizes import seconds_in
from shards.errors import BadInput, one_line
from shards.stores.base import RETRY_S, Store, StoreUnavailable

_FORM = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<folder>.+))?")
_FILES_A_COMMIT, _BYTES_A_COMMIT = 64, 10**9
_FOR_THE_MOMENT = (408, 429, 500, 502, 503, 504)
Result = TypeVar("Result")


class Dataset(Store):
    """One folder of one dataset at one revision."""

    def __init__(self, url: str, repo: str, revision: str, folder: str) -> None:
        self.url, self._repo, self._revision, self._folder = url, repo, revision, folder
        self._where: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset", "revision": revision}
        self._listed: dict[str, Any] = {}

    def make(self) -> None:
        """The dataset is there; a new one is private."""
        self._call(lambda: HfApi().create_repo(self._repo, repo_type="dataset", private=True, exist_ok=True))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file, by the repository's tree; none where there is no such folder."""

        def tree() -> list[Any]:
            HfApi().repo_info(**self._where)  # fails at once where the listing would wait half a minute on its own
            folder = self._folder.rstrip("/") or None
            return list(HfApi().list_repo_tree(path_in_repo=folder, recursive=True, **self._where))

        entries = self._call(tree, missing=list)
        self._listed = {entry.path: entry for entry in entries if hasattr(entry, "size")}
        sizes = {path.removeprefix(self._folder): entry.size for path, entry in self._listed.items()}
        return {name: size for name, size in sorted(sizes.items()) if name.startswith(prefix)}

    def get(self, name: str) -> bytes:
        """The content of a file."""
        return self._fetch(name, {})

    def get_range(self, name: str, offset: int, size: int) -> memoryview:
        """One request with a Range."""
        content = self._fetch(name, {"Range": f"bytes={offset}-{offset + size - 1}"}) if size else b""
        if len(content) != size:
            raise self.cut_off(name, offset + size, offset + len(content))
        return memoryview(content)

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """By the SHA-256 that the hub lists of large files; small ones are read."""
        entry = self._listed.get(self._folder + name)
        if entry is None or entry.size != size:
            return False
        if entry.lfs is not None:
            return bool(entry.lfs.sha256 == sha256)
        return hashlib.sha256(self.get(name)).hexdigest() == sha256

    def put(self, name: str, content: bytes, sha256: str) -> None:
        """One commit."""
        self.put_all([name], lambda _: content, {name: sha256})

    def put_all(self, names: Sequence[str], content: Callable[[str], bytes], sha256: Mapping[str, str]) -> None:
        """A commit for every 64 files, or where they are more than 1 GB; the hub takes few commits an hour.

        A commit's files are in memory, and so is the next one, which did not fit.
        """
        files, num_bytes = list[CommitOperationAdd](), 0
        for name in names:
            data = content(name)
            if files and (len(files) == _FILES_A_COMMIT or num_bytes + len(data) > _BYTES_A_COMMIT):
                self._commit(files)
                files, num_bytes = [], 0
            files.append(CommitOperationAdd(self._folder + name, data))
            num_bytes += len(data)
        if files:
            self._commit(files)

    def _commit(self, files: list[CommitOperationAdd]) -> None:
        message = f"{len(files)} files of a cache of teacher-shards"
        self._call(lambda: HfApi().create_commit(operations=files, commit_message=message, **self._where))

    def create(self, name: str, content: bytes) -> bytes | None:
        """The hub has no conditional write."""
        raise self.read_only()

    def creates_only_if_absent(self) -> bool:
        """The hub has no conditional write."""
        raise self.read_only()

    def remove(self, name: str) -> None:
        """Nothing is removed of a dataset, whose history would keep it."""
        raise self.read_only()

    def read_only(self) -> BadInput:
        """What is raised where a cache is to be made here."""
        return BadInput(f"{self.url}: extract into a folder or a bucket, then python -m shards push CACHE {self.url}")

    def _fetch(self, name: str, headers: dict[str, str]) -> bytes:
        address = hf_hub_url(self._repo, self._folder + name, repo_type="dataset", revision=self._revision)

        def request() -> bytes:
            response = get_session().get(address, headers=build_hf_headers() | headers, follow_redirects=True)
            hf_raise_for_status(response)
            if headers and response.status_code != 206:  # the whole file in the place of a part of it
                first, last = map(int, headers["Range"].removeprefix("bytes=").split("-"))
                return response.content[first : last + 1]
            return response.content

        def missing() -> NoReturn:
            raise self.missing(name)

        return self._call(request, missing)

    def _call(self, call: Callable[[], Result], missing: Callable[[], Result] | None = None) -> Result:
        """What `call` gives; a failure of the moment is repeated, and what stays is one line."""
        end = time.monotonic() + seconds_in(RETRY_S, 120.0)
        for attempt in itertools.count():
            try:
                return call()
            except (RepositoryNotFoundError, RevisionNotFoundError):
                raise StoreUnavailable(
                    f"{self.url}: there is no such dataset or revision, or it is not yours to see; check its name, or "
                    f"log in (hf auth login, or HF_TOKEN)"
                ) from None
            except OfflineModeIsEnabled:
                raise StoreUnavailable(
                    f"{self.url}: HF_HUB_OFFLINE is set; unset it, or pull where there is a network"
                ) from None
            except HfHubHTTPError as error:
                status = error.response.status_code
                if status == 404 and missing is not None:
                    return missing()
                if status in (401, 403):
                    refused = "refuses; log in with a token that may do this (hf auth login, or HF_TOKEN)"
                    raise StoreUnavailable(f"{self.url}: {refused}") from None
                if status not in _FOR_THE_MOMENT or time.monotonic() > end:
                    said = f"the hub answers {status} ({one_line(error)[:120]})"
                    raise StoreUnavailable(f"{self.url}: {said}; run the same command again to go on") from None
            except httpx.TransportError as error:
                if time.monotonic() > end:
                    what = f"the hub cannot be reached ({one_line(error)[:120]}); check the network and HF_ENDPOINT"
                    raise StoreUnavailable(f"{self.url}: {what}, then run again") from None
            time.sleep(min(5.0, 0.1 * 2 ** min(attempt, 6)))
        raise AssertionError("unreachable")


def open_url(url: str) -> Dataset:
    """The dataset that `url` names."""
    match = _FORM.fullmatch(url)
    if match is None:
        raise BadInput(f"{url}: expected hf://datasets/OWNER/NAME, with @REVISION or /FOLDER behind it where needed")
    folder = f"{match['folder']}/" if match["folder"] else ""
    return Dataset(url, match["repo"], match["revision"] or "main", folder)
