"""The teacher `data2vec2-text`: a checkpoint with the files of its tokenizer beside it, and what is refused."""

import json
import shutil
from pathlib import Path

import caches
import pytest
import torch

from extract.modalities.text import TextInput
from extract.networks.data2vec2 import TextOutputs, load_data2vec2
from extract.networks.data2vec2.settings import settings_of
from extract.teachers import load_teacher
from extract.teachers.data2vec2_text import BPE_FILES, OFFICIAL_FOLDER
from shards.errors import BadInput, SourceUnavailable

GOLDEN = Path(__file__).parent / "golden"
EMBEDDING = "modality_encoders.TEXT.local_encoder.embed_tokens.weight"


def write_folder(folder: Path, num_tokens: int = 362, num_extra: int = 0) -> Path:
    """The golden checkpoint with an embedding for the tiny BPE of `num_tokens`, and the BPE's files beside it."""
    content = torch.load(GOLDEN / "text_public.pt", weights_only=True)
    generator = torch.Generator().manual_seed(0)
    content["model"][EMBEDDING] = torch.randn(num_tokens, 48, generator=generator)
    if num_extra:
        content["model"]["modality_encoders.TEXT.extra_tokens"] = torch.zeros(1, num_extra, 48)
        content["cfg"]["model"]["modalities"]["text"]["num_extra_tokens"] = num_extra
    torch.save(content, folder / "tiny.pt")
    for name in BPE_FILES:
        shutil.copyfile(GOLDEN / "text_bpe_tiny" / name, folder / name)
    return folder / "tiny.pt"


def test_a_text_from_its_characters_to_its_targets(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    teacher = load_teacher("data2vec2-text", str(path), weights_key="ema")
    assert isinstance(teacher.network, TextOutputs) and isinstance(teacher.inputs, TextInput)
    assert teacher.inputs.size == 40  # as many tokens as there are positions
    assert settings_of(teacher.settings or {}) == teacher.network.settings
    assert teacher.outputs["layer_mean"] == (40, 48) and teacher.outputs["cls"] == (48,)
    tokenizer = teacher.inputs.tokenizer
    rows = tokenizer.rows([("the cat sat on the mat",)], 40)
    row, length = rows["tokens"][0], int(rows["length"][0])
    assert row[:length].tolist() == [0, 72, 71, 204, 121, 266, 47, 2] and set(row[length:].tolist()) == {1}
    fields = {"tokens": torch.from_numpy(row.astype("int64"))[None], "length": torch.tensor([length])}
    with torch.no_grad():
        tokens = teacher.network(*teacher.inputs.prepare(fields).values())["tokens"]
        alone = load_data2vec2(path, "ema")(fields["tokens"][:, :length]).tokens
    torch.testing.assert_close(tokens[:, :length], alone, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_cache_of_texts_grows_and_its_student_teaches_the_same_blocks(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    lines = [case["text"] for case in json.loads((GOLDEN / "text_bpe_tiny" / "expected.json").read_text())["cases"]]
    (tmp_path / "corpus.txt").write_text("\n".join([line.replace("\n", " ") for line in lines] * 4))
    corpus = ("--data", f"text:{tmp_path / 'corpus.txt'}", "--codec", "float32", "--devices", "cpu")
    teacher = (
        "--teacher",
        "data2vec2-text",
        "--weights",
        path,
        "--out",
        tmp_path / "cache",
        "--view",
        "blocks:size=12",
    )
    for target in ("layer_mean", "tokens"):
        caches.extract(*teacher, *corpus, "--target", target)
    caches.command("shards", "verify", tmp_path / "cache", "--recompute", "5").succeeds()
    recipe = ("--recipe", "features", "--targets", "layer_mean-float32", "--student", "data2vec2:depth=2")
    start = (
        "--init",
        "teacher",
        "--epochs",
        "1",
        "--batch_size",
        "16",
        "--run_dir",
        tmp_path / "run",
        "--devices",
        "cpu",
    )
    caches.command("distill", "--shards", tmp_path / "cache", *recipe, *start).succeeds()
    # "<s>" in a document is text for the tokenizer that was stored, too
    caches.extract("--teacher", f"run:{tmp_path / 'run'}", *corpus, "--out", tmp_path / "again")
    assert caches.viewset_of(tmp_path / "again").name == caches.viewset_of(tmp_path / "cache").name


def test_size_and_weights_are_part_of_what_it_is(tmp_path: Path) -> None:
    path = str(write_folder(tmp_path))
    teacher, short, ema = (
        load_teacher("data2vec2-text", path, size, key) for size, key in ((None, None), (12, None), (None, "ema"))
    )
    assert short.outputs["tokens"] == (12, 48) and short.weights_sha256 == teacher.weights_sha256
    valid = load_teacher("data2vec2-text:statistics=valid", path)
    assert valid.name == teacher.name and valid.architecture != teacher.architecture
    arguments = teacher.inputs.prepare(teacher.inputs.example()).values()  # two tokens, then padding
    means = [each.network(*arguments)["layer_mean"][0, :2] for each in (teacher, valid)]
    # a rounding of 6e-8 of values below 5, over a deviation of at least sqrt(1e-5)
    assert means[1].mean(0).abs().max() < 1e-4 < 1e-2 < means[0].mean(0).abs().max()
    assert teacher.architecture == ema.architecture and teacher.weights_sha256 != ema.weights_sha256


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    with pytest.raises(BadInput, match=r"--view size=41: .*tiny.pt has 40 positions; give a size up to that"):
        load_teacher("data2vec2-text", str(path), 41)
    with pytest.raises(BadInput, match="image checkpoint, found one for text; give --teacher data2vec2-text"):
        load_teacher("data2vec2", str(path))
    with pytest.raises(BadInput, match=r"image_public.pt: expected a text checkpoint, found one for images"):
        load_teacher("data2vec2-text", str(GOLDEN / "image_public.pt"))
    with pytest.raises(BadInput, match="puts 2 tokens of its own before a text"):
        load_teacher("data2vec2-text", str(write_folder(tmp_path, num_extra=2)))
    with pytest.raises(BadInput, match="--teacher data2vec2-text:padding=none: padding=none: expected statistics=val"):
        load_teacher("data2vec2-text:padding=none", str(path))
    (write_folder(tmp_path).parent / "vocab.bpe").unlink()
    with pytest.raises(BadInput, match=f"tiny.pt: its tokenizer's vocab.bpe must lie beside it.*{OFFICIAL_FOLDER}"):
        load_teacher("data2vec2-text", str(path))
    with pytest.raises(BadInput, match=r"dict.txt: has ids for 362 tokens.*tiny.pt embeds 361; give the dict.txt"):
        load_teacher("data2vec2-text", str(write_folder(tmp_path, 361)))


def test_without_a_network_all_four_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    address = "http://127.0.0.1:9"  # the port that nothing listens at
    with pytest.raises(SourceUnavailable) as caught:
        load_teacher("data2vec2-text", f"{address}/nlp_base.pt")
    message = str(caught.value)
    assert message.startswith(f"{address}: cannot be downloaded here (") and "\n" not in message
    assert "download nlp_base.pt, encoder.json, vocab.bpe, dict.txt elsewhere into one folder" in message
    assert message.endswith("give --weights FOLDER/nlp_base.pt")
