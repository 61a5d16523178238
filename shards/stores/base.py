"""What a store does: it keeps the files of a cache under names, where no file system does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from shards.errors import BadInput, Damaged, SourceUnavailable

RETRY_S = "TEACHER_SHARDS_RETRY_S"
"""Seconds for which a request that fails is repeated, and for which an answer may pause (default: 120)."""
IN_FLIGHT = 16
"""Files that are sent or fetched at a time, each held in memory whole."""


class StoreUnavailable(SourceUnavailable):
    """A store cannot be reached, or refuses; the message says what to mend."""


class Store(ABC):
    """Files by name, each of which appears whole or not at all; any thread may call any method.

    Requests that fail for the moment (500, 503, a cut connection) are repeated. What then still fails is
    StoreUnavailable, in one line. A name is relative to the store's URL, with slashes.
    """

    url: str
    """Without a slash at its end."""

    def make(self) -> None:  # noqa: B027
        """The place for files is there, where it is ours to make; a bucket is not."""

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file whose name begins with `prefix` (a folder's name and a slash), by name, sorted."""

    def versions(self, prefix: str) -> dict[str, str]:
        """What tells one content of a file from another, by name, as `sizes`; for files that are written again."""
        raise self.read_only()

    @abstractmethod
    def get(self, name: str) -> bytes:
        """The content of a file; Damaged where there is none."""

    @abstractmethod
    def get_range(self, name: str, offset: int, size: int) -> memoryview:
        """`size` bytes of a file from `offset` on; Damaged where the file ends before."""

    @abstractmethod
    def holds(self, name: str, size: int, sha256: str) -> bool:
        """Whether the file is known to have this content, without reading it."""

    @abstractmethod
    def put(self, name: str, content: bytes, sha256: str) -> None:
        """The file has this content, whatever was there before; `holds` knows it from then on."""

    def put_all(self, names: Sequence[str], content: Callable[[str], bytes], sha256: Mapping[str, str]) -> None:
        """Every file of `names` has its `content`, which is asked for when its turn comes; several are sent at once."""
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            sent = [pool.submit(lambda each: self.put(each, content(each), sha256[each]), name) for name in names]
            try:
                for future in sent:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @abstractmethod
    def create(self, name: str, content: bytes) -> bytes | None:
        """None: the file was absent and has `content` now, by this call. Else what was there before, and stays."""

    @abstractmethod
    def creates_only_if_absent(self) -> bool:
        """Whether `create` keeps its word here, tried out on a file of its own: some stores ignore the condition."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """The file is gone."""

    def named(self, name: str) -> str:
        """How messages call a file."""
        return f"{self.url}/{name}"

    def missing(self, name: str) -> Damaged:
        """What is raised for a file that is not there."""
        return Damaged(f"{self.named(name)}: missing; push the cache again: python -m shards push CACHE {self.url}")

    def cut_off(self, name: str, expected: int, found: int) -> Damaged:
        """What is raised for a file that is shorter or longer than its record says."""
        return Damaged(
            f"{self.named(name)}: {found} bytes where {expected} were expected: half uploaded, or replaced; push the "
            f"cache again: python -m shards push CACHE {self.url}"
        )

    def read_only(self) -> BadInput:
        """What is raised where nothing can be written."""
        return BadInput(f"{self.url}: can only be read; write to a bucket (s3://, gs://, az://) or a folder")
