"""Datasets of the hub that lie there as WebDataset tars, or here as img2dataset wrote them: `cc3m`, `cc12m`."""

from dataclasses import replace

from extract.sources.base import Source
from extract.sources.hub import DATASETS, download
from extract.sources.splits import split_words
from extract.sources.wds import open_tars
from shards.splits import choose_split


def open_named(name: str, split: str, data_dir: str | None) -> Source:
    """The tars of one split, downloaded whole and then read in place, or those in `data_dir`; captions are in .txt."""
    repository = DATASETS[name].identifier
    if data_dir is not None:
        return replace(open_tars(f"--data_dir {data_dir}", data_dir, split), name=name)
    flag = f"--data {name}"

    def of_split(names: list[str]) -> list[str]:
        tars = {each: split_words(each) for each in names if each.endswith(".tar")}
        chosen = choose_split(flag, split, set().union(*tars.values()))
        return [each for each, words in tars.items() if chosen in words]

    remedy = (
        f"download the .tar files of https://huggingface.co/datasets/{repository}, or the images with img2dataset, and "
        "give their folder as --data_dir"
    )
    return replace(open_tars(flag, str(download(flag, repository, of_split, remedy)), split), name=name)
