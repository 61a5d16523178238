"""The Hugging Face hub: its datasets that `--data` knows by name, what `hf:` names, and what the client raises."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from shards.errors import BadInput, SourceUnavailable


class HubDataset(NamedTuple):
    """A dataset of the hub: its repository, and which of its columns are meant."""

    identifier: str
    """With `{split}` in it where each split is a repository of its own."""
    label: str | None = None
    """The label where the dataset has several; a local copy may lack it, and then its own label counts."""
    captions: str | None = None
    """The captions' column; None: the dataset has no captions."""
    module: str = "hf"
    """What opens it: its `open_named`."""


DATASETS = {
    # 1.28 million photos in 1,000 classes (ILSVRC 2012), gated. Russakovsky et al. 2015, "ImageNet Large Scale Visual
    # Recognition Challenge". In a local copy of the form split/wnid/image the classes are called by their wnids.
    "imagenet": HubDataset("ILSVRC/imagenet-1k"),
    # 60,000 images of 32 x 32 pixels in 10 and in 100 classes; `validation` is the test split.
    # Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images", section 3.1.
    "cifar10": HubDataset("uoft-cs/cifar10"),
    "cifar100": HubDataset("uoft-cs/cifar100", label="fine_label"),
    # Karpathy's splits, five captions an image. 123,287 photos: Lin et al. 2014, arXiv:1405.0312; 31,014: Young et al.
    # 2014, "From image descriptions to visual denotations".
    "coco": HubDataset("Multimodal-Fatima/COCO_captions_{split}", captions="sentences_raw", module="karpathy"),
    "flickr30k": HubDataset("AnyModal/flickr30k", captions="original_alt_text", module="karpathy"),
    # Photos of the web and their alt-texts, in tars. 3 million: Sharma et al. 2018, "Conceptual Captions";
    # 12 million: Changpinyo et al. 2021, arXiv:2102.08981.
    "cc3m": HubDataset("pixparse/cc3m-wds", module="hub_tars"),
    "cc12m": HubDataset("pixparse/cc12m-wds", module="hub_tars"),
}
"""What `--data NAME` opens, from the hub or from a local copy in --data_dir. A new dataset of the hub is a row here."""


def local_folder(identifier: str) -> Path | None:
    """The folder here that `hf:` means, resolved; None where it means a repository of the hub."""
    folder = Path(identifier).expanduser()
    return folder.resolve() if folder.is_dir() else None


def hub_title(identifier: str) -> str:
    """hf- and the local folder's own name, or hf-ORG--NAME."""
    folder = local_folder(identifier)
    return f"hf-{folder.name if folder else identifier.replace('/', '--')}"


def download(flag: str, repository: str, choose: Callable[[list[str]], list[str]], remedy: str) -> Path:
    """The folder to which those of a repository's files that `choose` takes are downloaded; offline, what is there."""
    from huggingface_hub import HfApi, constants, snapshot_download

    with hub_errors(flag, f"datasets/{repository}", remedy):
        if constants.HF_HUB_OFFLINE:
            return Path(snapshot_download(repository, repo_type="dataset", local_files_only=True))
        wanted = choose(HfApi().list_repo_files(repository, repo_type="dataset"))
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=wanted))


def hub_folder(flag: str, identifier: str, remedy: str, wanted: Sequence[str], pickles: Sequence[str]) -> Path:
    """The repository's folder in the hub's cache, its files from the network unless they are there.

    `wanted` and `pickles` are patterns of names; pickles come where there are no safetensors.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        with hub_errors(flag, identifier, remedy):
            folder = Path(snapshot_download(identifier, allow_patterns=[*wanted]))
            if not any(folder.glob("*.safetensors")):
                snapshot_download(identifier, allow_patterns=[*wanted, *pickles])
    except HFValidationError as error:
        kind = flag.partition(":")[0]
        raise BadInput(
            f"{flag}: {identifier!r} is no folder here and no name on the hub; give {kind}:ORG/NAME or {kind}:DIR"
        ) from error
    return folder


@contextmanager
def hub_errors(flag: str, repository: str, remedy: str, not_found: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raises SourceUnavailable for what the hub refuses, lacks or cannot be asked, and for `not_found`.

    `repository` is where it stands on the hub: ORG/NAME, or datasets/ORG/NAME.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    from huggingface_hub.utils import httpx

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
