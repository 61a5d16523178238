"""The codec study on texts: what is on a front, how WordNet is read, and the whole of it on a tiny encoder."""

import json
from pathlib import Path

import pytest
import torch
from texts import WORDS

from benchmarks import glosses
from benchmarks.codec_arms import ARMS
from benchmarks.codec_study_texts import main, table
from benchmarks.fronts import Measure, front, plot_fronts
from benchmarks.synthetic_texts import write_text_encoder
from shards.errors import BadInput

WIDTH, BLOCK, LINES = 384, 16, 160
LOSS, SHARE = Measure("loss", "loss", 1, 4, least=True), Measure("knn", "kNN", 100, 1)


def rows_of(values: dict[str, tuple[int, list[float], list[float]]]) -> list[dict]:
    """A row a seed of each way, whose bytes, losses and shares are given."""
    return [
        {"codec": way, "bytes_a_token": size, "loss": loss, "knn": share}
        for way, (size, losses, shares) in values.items()
        for loss, share in zip(losses, shares, strict=True)
    ]


def test_a_front_is_what_nothing_of_as_few_bytes_betters(tmp_path: Path) -> None:
    ways = {
        "large": (100, [0.1, 0.3], [0.5, 0.7]),  # in the mean 0.2 and 0.6
        "worse": (60, [0.4, 0.4], [0.1, 0.1]),
        "small": (50, [0.3, 0.3], [0.6, 0.6]),
        "other": (50, [0.3, 0.5], [0.7, 0.3]),
        "least": (10, [0.5, 0.5], [0.5, 0.5]),
    }
    rows = rows_of(ways)
    assert front(rows, LOSS) == ["least", "small", "large"]
    assert front(rows, SHARE) == ["least", "small"]  # of equal shares that of fewer bytes
    plot_fronts(rows, dict.fromkeys(ways, "1"), [LOSS, SHARE], "bytes", tmp_path / "front.svg")
    drawn = (tmp_path / "front.svg").read_text()
    assert all(way in drawn for way in ways)


def write_wordnet(folder: Path) -> Path:
    """Four data files as wndb(5WN) has them: a licence behind two spaces, then a synset a line."""
    licence = "  1 This software and database is being provided\n"
    synsets = {
        "noun": '00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which exists; "it is an entity"  \n'
        "00015388 05 n 01 animal 0 000 | a living organism; that moves  \n",
        "verb": '00001740 29 v 01 breathe 0 000 | draw air into the lungs; "I breathe"; "we breathe"  \n',
        "adj": "00001740 00 a 01 able 0 000 | that which exists  \n",
        "adv": "00001740 02 r 01 barely 0 000 | by a small margin  \n",
    }
    folder.mkdir()
    for part, lines in synsets.items():
        (folder / f"data.{part}").write_text(licence + lines)
    return folder


def test_glosses_are_definitions_with_their_class(tmp_path: Path) -> None:
    glosses.main(["--wordnet", str(write_wordnet(tmp_path / "wordnet")), "--out", str(tmp_path / "out")])
    lines = [json.loads(line) for path in (tmp_path / "out").iterdir() for line in path.read_text().splitlines()]
    assert {line["text"]: line["label"] for line in lines} == {
        "that which exists": "noun.03",  # the first of two equal ones
        "a living organism; that moves": "noun.05",
        "draw air into the lungs": "verb.29",
        "by a small margin": "adv.02",
    }
    with pytest.raises(BadInput, match="apt-get install wordnet-base"):
        glosses.main(["--wordnet", str(tmp_path), "--out", str(tmp_path / "out")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose width every codebook of the study divides, and texts of the class of their first word."""
    folder, generator = tmp_path_factory.mktemp("study"), torch.Generator().manual_seed(0)
    write_text_encoder(folder / "bert", WORDS, WIDTH, 2, 32, 0)
    (folder / "lines").mkdir()
    for split in ("train", "validation", "test"):
        texts = [torch.randint(4, (1,), generator=generator).tolist() for _ in range(LINES)]
        texts = [[*first, *torch.randint(len(WORDS), (9,), generator=generator).tolist()] for first in texts]
        lines = [{"text": " ".join(WORDS[i] for i in text), "label": WORDS[text[0]]} for text in texts]
        (folder / f"lines/{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.slow
def test_each_arm_has_its_figures_and_no_student_is_trained_twice(folder: Path) -> None:
    flags = ["--teacher", folder / "bert", "--data", f"text:{folder / 'lines'}:label=label", "--work", folder / "work"]
    flags += ["--lines", LINES, "--calibration", LINES, "--bank", LINES, "--queries", 50]
    flags += ["--block", BLOCK, "--line", BLOCK, "--depth", 1]
    flags += ["--batch_size", 8, "--max_steps", 3, "--seeds", 1, "--out", folder / "out"]
    studies = []
    for _ in range(2):
        main([str(flag) for flag in flags])
        studies.append(json.loads((folder / "out/codec_study_texts.json").read_text()))
    study = studies[0]
    assert studies[1] == study and not any((folder / "work/runs").iterdir())
    rows = {row["codec"]: row for row in study["rows"]}
    assert rows.keys() == {arm.name for arm in ARMS} and len(study["rows"]) == len(ARMS)
    scale, position = 2, 1  # beside a token's values: a float16 number and a byte
    assert rows["float32"]["bytes_a_token"] == 4 * WIDTH and rows["pq:96"]["bytes_a_token"] == 96
    assert rows["int8"]["bytes_a_token"] == WIDTH + scale
    assert rows["pq:128,rotation=pca, a quarter of the tokens"]["bytes_a_token"] == (128 + position) / 4
    lost = {codec: study["codecs"][codec]["variance_lost"] for codec in ("float32", "int8", "pq:96", "pq:32")}
    assert list(lost.values()) == sorted(lost.values()) and lost["float32"] == 0 < lost["int8"]
    assert all(row["loss"] > 0 and 0 <= row["knn"] <= 1 and 0 <= row["linear"] <= 1 for row in rows.values())
    assert rows["float32"]["loss"] < study["start"]["loss"] and study["classes"] == 4
    residual = study["codecs"]["rq:32"]
    assert residual["variance_lost_seen"] < residual["variance_lost"]  # students learn from blocks that trained nothing
    assert table(study).count("\n| ") == len(study["codecs"]) + 1 + len(ARMS)
    assert (folder / "out/codec_study_texts.svg").stat().st_size > 10_000
