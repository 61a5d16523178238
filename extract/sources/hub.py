"""What `hf:` names, a folder here or a repository of the Hugging Face hub, and what the hub's client raises."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import httpx

from shards.errors import SourceUnavailable


def local_folder(identifier: str) -> Path | None:
    """The folder here that `hf:` means, resolved; None where it means a repository of the hub."""
    folder = Path(identifier).expanduser()
    return folder.resolve() if folder.is_dir() else None


def hub_title(identifier: str) -> str:
    """hf- and the local folder's own name, or hf-ORG--NAME."""
    folder = local_folder(identifier)
    return f"hf-{folder.name if folder else identifier.replace('/', '--')}"


@contextmanager
def hub_errors(flag: str, repository: str, remedy: str, not_found: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raises SourceUnavailable for what the hub refuses, lacks or cannot be asked, and for `not_found`.

    `repository` is where it stands on the hub: ORG/NAME, or datasets/ORG/NAME.
    """
    identifier = repository.removeprefix("datasets/")
    unknown: tuple[type[Exception], ...] = (RepositoryNotFoundError, *not_found)
    try:
        yield
    except unknown as error:
        raise SourceUnavailable(
            f"{flag}: the hub has no {identifier} that you may read: if it is gated, accept its terms at "
            f"https://huggingface.co/{repository}, then run `hf auth login` (or set HF_TOKEN); or {remedy}"
        ) from error
    except (httpx.TransportError, ConnectionError, LocalEntryNotFoundError) as error:
        raise SourceUnavailable(
            f"{flag}: the Hugging Face hub is out of reach and its cache here lacks {identifier}: go online, "
            f"or {remedy}"
        ) from error
    except HfHubHTTPError as error:
        raise SourceUnavailable(f"{flag}: the hub refuses ({error}): try again later, or {remedy}") from error
