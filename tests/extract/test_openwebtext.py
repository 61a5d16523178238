"""OpenWebText as the hub has it: archives in tars or unpacked, or parquet; splits alike, damage by name."""

import io
import tarfile
from pathlib import Path

import pytest
from test_sources_text import documents, texts, write_tar
from test_text_tables import write_parquet

from extract.sources import open_source
from shards.errors import BadInput, SourceUnavailable


def xz(files: dict[str, bytes]) -> bytes:
    """A .tar.xz as the hub's slices hold them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_slice(folder: Path, number: int, unpacked: bool = False) -> list[str]:
    """Two archives of two texts each; gives the texts in the order of the archives' numbers."""
    archives = {
        f"urlsf_subset{number:02d}-{part}_data.xz": xz(
            {f"{part}-{text}.txt": f"{number}.{part}.{text}\n\n\nx\0\n".encode() for text in (0, 1)}
        )
        for part in (2, 11)
    }
    if unpacked:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in archives.items():
            (folder / name).write_bytes(content)
    else:
        members = {"openwebtext/readme": b"?"} | {f"openwebtext/{name}": content for name, content in archives.items()}
        write_tar(folder / "subsets" / f"urlsf_subset{number:02d}.tar", members)
    return [f"{number}.{part}.{text}\nx" for part in (2, 11) for text in (0, 1)]


@pytest.mark.parametrize("unpacked", [False, True])
def test_openwebtext_of_archives(unpacked: bool, tmp_path: Path) -> None:
    written = {number: write_slice(tmp_path, number, unpacked) for number in (0, 1, 3, 4, 5, 6)}
    train = open_source("openwebtext", "train", str(tmp_path))
    assert texts(train) == [*written[0], *written[1], *written[3], *written[4]]
    assert (
        train.notes == (f"--data_dir {tmp_path}: split train lacks slice 2 in {tmp_path}",)
        and train.name == "openwebtext"
    )
    assert documents(train, 5) == documents(train)[5:]
    validation = open_source("openwebtext", "val", str(tmp_path))
    assert texts(validation) == written[5] and validation.notes == () and validation.split == "validation"


def test_openwebtext_of_parquet_is_cut_in_the_same_proportions(tmp_path: Path) -> None:
    for number in range(4):
        write_parquet(tmp_path / "plain_text" / f"train-{number:05d}-of-00004.parquet", 420, number * 420)
    train, validation = (texts(open_source("openwebtext", split, str(tmp_path))) for split in ("train", "validation"))
    assert train == [f"text {row}" for row in range(400)]
    assert validation == [f"text {row}" for row in range(400, 480)]
    (tmp_path / "plain_text" / "train-00000-of-00004.parquet").unlink()
    source = open_source("openwebtext", "validation", str(tmp_path))
    assert texts(source) == [f"text {row}" for row in range(420, 480)] and "lacks file 0 of 4" in source.notes[0]
    with pytest.raises(BadInput, match=r"split train: download subsets/urlsf_subset00\.tar to urlsf_subset04"):
        open_source("openwebtext", "train", str(tmp_path))


def test_openwebtext_out_of_reach_says_what_to_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    expected = r"out of reach .* download subsets/urlsf_subset05\.tar of https://\S+ and give .* --data_dir"
    with pytest.raises(SourceUnavailable, match=expected):
        open_source("openwebtext", "validation")


@pytest.mark.parametrize("cut", [30, 100, -1, -40])
def test_a_damaged_archive_of_openwebtext_is_named(cut: int, tmp_path: Path) -> None:
    write_slice(tmp_path, 5, unpacked=True)
    path = tmp_path / "urlsf_subset05-11_data.xz"
    content = path.read_bytes()
    for damaged in (content[:cut], content[:cut] + bytes([content[cut] ^ 0x55]) + content[len(content[:cut]) + 1 :]):
        path.write_bytes(damaged)
        try:
            read = documents(open_source("openwebtext", "validation", str(tmp_path)))
        except BadInput as refused:
            assert "urlsf_subset05-11_data.xz is damaged" in str(refused)
        else:  # what lies behind the archive's last text is not read
            assert len(read) == 4
