"""The hub's sources without the hub: local folders, its cache, and what is said when it is out of reach or gated."""

import http.server
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
from PIL import Image

from extract.sources import SOURCES, open_source
from extract.sources.hub import DATASETS
from shards.errors import BadInput, SourceUnavailable


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")


@pytest.fixture(params=["private", "gated"])
def gated_hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that tells nothing of the dataset, or, as for imagenet-1k, all but the files."""

    class Gate(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = request.param == "gated" and self.path.startswith("/api/datasets/")
            body = b'{"id": "ILSVRC/imagenet-1k", "sha": "49e2ee26f3810fb5a7536bbf732a7b07389a47b5"}' if told else b""
            self.send_response(200 if told else 403)
            self.send_header("Content-Length", str(len(body)))
            if not told:
                self.send_header("X-Error-Code", "GatedRepo")
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *values: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def write_images(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)


def test_datasets_of_the_hub_are_named_by_their_rows() -> None:
    assert {name: (row.identifier, row.captions or row.label) for name, row in DATASETS.items()} == {
        "imagenet": ("ILSVRC/imagenet-1k", None),
        "cifar10": ("uoft-cs/cifar10", None),
        "cifar100": ("uoft-cs/cifar100", "fine_label"),
        "coco": ("Multimodal-Fatima/COCO_captions_{split}", "sentences_raw"),
        "flickr30k": ("AnyModal/flickr30k", "original_alt_text"),
        "cc3m": ("pixparse/cc3m-wds", None),
        "cc12m": ("pixparse/cc12m-wds", None),
    }
    assert DATASETS.keys() <= SOURCES.keys()


def test_columns_of_a_hub_dataset_and_its_copy(tmp_path: Path) -> None:
    features = datasets.Features(image=datasets.Image(), mask=datasets.Image(), label=datasets.Value("string"))
    colours = {"image": (9, 0, 0), "mask": (0, 9, 0)}
    row = {name: Image.new("RGB", (2, 2), colour) for name, colour in colours.items()} | {"label": "x"}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_list([row], features=features).to_parquet(tmp_path / "set" / "train-0.parquet")
    data = f"hf:{tmp_path / 'set'}"
    with pytest.raises(BadInput, match=f"image may be any of image, mask: choose one, as in --data {data}:image=image"):
        open_source(data, "train")
    for data_dir in (None, str(tmp_path / "set")):
        sources = {name: open_source(f"{data}:image={name}", "train", data_dir) for name in colours}
        assert {name: source.read(0).image.getpixel((0, 0)) for name, source in sources.items()} == colours
        assert {source.name for source in sources.values()} == {"hf-set"}
        assert sources["image"].revision != sources["mask"].revision
    with pytest.raises(BadInput, match="column label holds text: only --data parquet:PATH reads images by their paths"):
        open_source(f"{data}:image=label", "train")
    write_images(tmp_path / "copy", "train/a/0.png")
    with pytest.raises(BadInput, match=r"holds folders of images, which have no columns: write --data hf:org/name$"):
        open_source("hf:org/name:image=mask", "train", str(tmp_path / "copy"))


HUB_CASES = [("imagenet", "ILSVRC/imagenet-1k"), ("cifar10", "uoft-cs/cifar10"), ("hf:org/name:config", "org/name")]


@pytest.mark.parametrize(("data", "identifier"), HUB_CASES)
@pytest.mark.usefixtures("no_hub")
def test_out_of_reach_fails_soon_and_says_what_helps(data: str, identifier: str) -> None:
    start = time.monotonic()
    with pytest.raises(SourceUnavailable, match=f"--data {data}: .* out of reach .* {identifier}: .*--data_dir"):
        open_source(data, "train")
    assert time.monotonic() - start < 15  # `datasets` alone retries for half a minute


def test_offline_mode_is_out_of_reach_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceUnavailable, match=r"--data cifar100: .* out of reach"):
        open_source("cifar100", "validation")


@pytest.mark.usefixtures("gated_hub")
def test_gated_says_how_to_get_in() -> None:
    with pytest.raises(SourceUnavailable, match=r"accept its terms at \S+/ILSVRC/imagenet-1k.*hf auth login.*HF_TOKEN"):
        open_source("imagenet", "train")


@pytest.mark.usefixtures("no_hub")
def test_what_was_downloaded_before_is_used_offline(tmp_path: Path, hub_cache: Path) -> None:
    write_images(tmp_path / "tiny", "train/a/0.png", "train/b/1.png")
    local = open_source(f"hf:{tmp_path / 'tiny'}", "train")
    commit = "0123456789abcdef0123456789abcdef01234567"
    info = next(hub_cache.rglob("dataset_info.json"))
    shutil.copytree(info.parent, hub_cache / "org___tiny" / "default" / "0.0.0" / commit)
    path = hub_cache / "org___tiny" / "default" / "0.0.0" / commit / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config_name": "default"}))
    source = open_source("hf:org/tiny", "train")
    assert (source.name, source.revision) == ("hf-org--tiny", commit)
    assert (source.keys, source.class_names) == (local.keys, local.class_names) == (["0", "1"], ("a", "b"))
    assert source.read(1).image.tobytes() == local.read(1).image.tobytes()


def test_local_folder_of_images(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", "train/cat/0.png", "train/cat/1.png", "train/dog/0.png", "test/cat/7.png")
    source = open_source(f"hf:{tmp_path / 'pets'}", "train")
    assert list(source.keys) == ["train-000000", "train-000001", "train-000002"]  # two are called 0
    assert (source.name, source.class_names) == ("hf-pets", ("cat", "dog"))
    samples = [source.read(index) for index in range(3)]
    assert [sample.label for sample in samples] == [0, 0, 1]
    assert [sample.image.tobytes() for sample in samples] == [
        Image.open(tmp_path / "pets/train" / name).tobytes() for name in ("cat/0.png", "cat/1.png", "dog/0.png")
    ]
    assert (asked := open_source(f"hf:{tmp_path / 'pets'}", "validation")).split == "test"
    assert list(asked.keys) == ["7"]


def test_configurations_are_told_apart(tmp_path: Path) -> None:
    write_images(tmp_path / "one", "x/a/0.png")
    write_images(tmp_path / "pets", "small/0.png", "large/0.png", "large/1.png")
    card = (
        "---\nconfigs:\n- config_name: small\n  data_files: small/*\n- config_name: large\n  data_files: large/*\n---\n"
    )
    (tmp_path / "pets" / "README.md").write_text(card)
    large = open_source(f"hf:{tmp_path / 'pets'}:large", "train")
    assert (large.name, len(large.keys)) == ("hf-pets-large", 2)
    with pytest.raises(BadInput, match=r"(small|large).*ORG/NAME"):
        open_source(f"hf:{tmp_path / 'pets'}:huge", "train")


def test_coarse_labels_are_left_aside(tmp_path: Path) -> None:
    features = datasets.Features(
        img=datasets.Image(),
        fine_label=datasets.ClassLabel(names=[str(name) for name in range(100)]),
        coarse_label=datasets.ClassLabel(names=["x", "y"]),
    )
    row = {"img": Image.new("RGB", (4, 4)), "fine_label": 42, "coarse_label": 1}
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list([row], features=features).to_parquet(tmp_path / "data" / "test-0.parquet")
    source = open_source("cifar100", "validation", data_dir=str(tmp_path))
    assert (source.name, source.split, source.read(0).label, len(source.class_names or ())) == (
        "cifar100",
        "test",
        42,
        100,
    )
    with pytest.raises(BadInput, match="label may be any of fine_label, coarse_label"):
        open_source(f"hf:{tmp_path}", "test")
    with pytest.raises(BadInput, match="label may be any of fine_label, coarse_label"):
        open_source(f"parquet:{tmp_path}", "test")


def test_what_datasets_cannot_open_is_one_line(tmp_path: Path) -> None:
    for data in (f"hf:{tmp_path}", f"hf:{tmp_path}/no/such/folder"):
        with pytest.raises(BadInput, match="`datasets` cannot open it"):
            open_source(data, "train")
    with pytest.raises(BadInput, match="'imagefolder' is no folder here"):
        open_source("hf:imagefolder", "train")
    with pytest.raises(BadInput, match="--data_dir nowhere: no folder is found"):
        open_source("imagenet", "train", data_dir="nowhere")
