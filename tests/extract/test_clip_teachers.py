"""The two towers of a CLIP as teachers: their embeddings are those that transformers computes of both together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from caches import command
from clips import POSITIONS, SIZE, WIDTH, write_clip, write_tokenizer
from safetensors.torch import load_file, save_file
from texts import write_encoder

from extract.modalities.text import TextInput
from extract.teachers import load_teacher

CAPTIONS = ["the cat on red", "a small river", "dog", "the unheard of moon"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips") / "clip"


@pytest.fixture(scope="module")
def clip(folder: Path) -> transformers.PreTrainedModel:
    return write_clip(folder, projection_dim=WIDTH)


def images() -> torch.Tensor:
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def test_image_embeddings_are_transformers_own(
    clip: transformers.PreTrainedModel, folder: Path, tmp_path: Path
) -> None:
    siglip = write_clip(tmp_path / "siglip", "Siglip")
    for model, where, width in ((clip, folder, WIDTH), (siglip, tmp_path / "siglip", 16)):
        teacher = load_teacher(f"hf:{where}")
        assert teacher.outputs["image_embeds"] == (width,)
        with torch.inference_mode():
            expected = model.get_image_features(pixel_values=images()).pooler_output
            found = teacher.network(images())["image_embeds"]
            alone = teacher.only(["image_embeds"]).network(images())
        # the same kernels; scaled dot products of another implementation may add up in another order
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert alone.keys() == {"image_embeds"} and torch.equal(alone["image_embeds"], found)


def test_text_embeddings_are_transformers_own(clip: transformers.PreTrainedModel, folder: Path) -> None:
    teacher = load_teacher(f"hf:{folder}:text")
    assert teacher.outputs == {"text_embeds": (WIDTH,)}
    inputs = teacher.inputs
    assert isinstance(inputs, TextInput) and inputs.size == POSITIONS
    fields = inputs.tokenizer.rows([(caption,) for caption in CAPTIONS], inputs.size)
    prepared = inputs.prepare({name: torch.from_numpy(rows) for name, rows in fields.items()})
    ids = [
        [2, *transformers.AutoTokenizer.from_pretrained(folder)(c, add_special_tokens=False)["input_ids"], 3]
        for c in CAPTIONS
    ]
    with torch.inference_mode():
        found = teacher.network(*prepared.values())["text_embeds"]
        # one at a time, so that there is no padding
        alone = [clip.get_text_features(input_ids=torch.tensor([row])).pooler_output[0] for row in ids]
    torch.testing.assert_close(found, torch.stack(alone), rtol=1e-4, atol=1e-5)
    assert np.linalg.matrix_rank(found.numpy()) == len(CAPTIONS)


def test_both_towers_have_the_weights_of_their_file_and_names_of_their_own(folder: Path, clip: object) -> None:
    image, text = load_teacher(f"hf:{folder}"), load_teacher(f"hf:{folder}:text")
    assert image.weights_sha256 == text.weights_sha256 and image.architecture != text.architecture
    assert image.name == text.name == "hf-clip"


def test_what_has_no_such_tower_is_refused(folder: Path, clip: object, tmp_path: Path) -> None:
    write_clip(tmp_path / "siglip", "Siglip")
    encoder = write_encoder(tmp_path / "bert")
    transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            image_size=SIZE,
            patch_size=8,
        )
    ).save_pretrained(tmp_path / "vit")
    write_tokenizer(tmp_path / "vit")
    out = ("--out", tmp_path / "cache", "--data", "digits", "--devices", "cpu")
    for name, kind in ((tmp_path / "siglip", "siglip_text_model"), (encoder, "bert"), (tmp_path / "vit", "vit")):
        refused = command("extract", "--teacher", f"hf:{name}:text", *out)
        refused.refuses(f"--teacher hf:{name}:text: expected a CLIP", f"found a {kind}")
    state = load_file(folder / "model.safetensors")
    broken = tmp_path / "broken"
    write_clip(broken, projection_dim=WIDTH)
    save_file(
        state | {"visual_projection.weight": torch.zeros(WIDTH, 5)}, broken / "model.safetensors", {"format": "pt"}
    )
    command("extract", "--teacher", f"hf:{broken}", *out).refuses("visual_projection.weight has the shape (8, 5)", "16")


def test_a_tower_saved_alone_is_known_by_its_projection(
    folder: Path, clip: transformers.PreTrainedModel, tmp_path: Path
) -> None:
    whole = transformers.CLIPVisionModelWithProjection.from_pretrained(folder, projection_dim=WIDTH)
    whole.save_pretrained(tmp_path / "vision")
    assert json.loads((tmp_path / "vision/config.json").read_text())["model_type"] == "clip_vision_model"
    found = load_teacher(f"hf:{tmp_path / 'vision'}", image_size=SIZE).network(images())["image_embeds"]
    with torch.inference_mode():
        expected = clip.get_image_features(pixel_values=images()).pooler_output
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
