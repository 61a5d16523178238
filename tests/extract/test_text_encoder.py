"""Text encoders of `transformers`: every target by name, with padding kept out, and what rebuilds one."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from extract.networks import build_network, export_network, load_exported
from extract.networks.hub_encoder import load_encoder
from extract.networks.text_encoder import TextEncoder, resized
from shards.errors import BadInput
from tests.extract import test_hugging_face_teachers as vision
from tests.extract.text_models import CONFIGS, DEPTH, VOCABULARY, WIDTH, make_model, padded_ids, write_model


def loaded(folder: Path, **how: Any) -> TextEncoder:
    """The encoder whose weights and config `folder` holds."""
    config = transformers.AutoConfig.from_pretrained(str(folder))
    read_state = partial(load_file, folder / "model.safetensors")
    network, prefix = load_encoder("here", config, folder, read_state)
    assert prefix == ""
    return TextEncoder(network.eval(), **how)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_are_transformers_own(kind: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, kind)
    encoder, (ids, mask) = loaded(tmp_path), padded_ids(model.config.pad_token_id)
    with torch.no_grad():
        found = encoder(ids, mask)
        whole = model(ids, attention_mask=mask.long(), output_hidden_states=True)
        plain = model.base_model(ids, attention_mask=mask.long()).last_hidden_state
    layers = list(whole.hidden_states[1:])
    assert torch.equal(found["mlm_logits"], whole.logits) and found["mlm_logits"].shape == (3, 12, VOCABULARY)
    assert torch.equal(found["tokens"], plain) and torch.equal(found["cls"], plain[:, 0])
    close(found["pooled"], torch.stack([rows[valid].mean(0) for rows, valid in zip(plain, mask, strict=True)]))
    normed = [F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in layers]
    close(found["layer_mean_no_norm"], torch.stack(normed).mean(0))
    close(found["layer_mean"], F.layer_norm(torch.stack(normed).mean(0), (WIDTH,)))
    for block in range(DEPTH):
        close(found[f"layer_{block + 1}"], F.layer_norm(normed[block], (WIDTH,)))
    assert len(layers) == DEPTH and len(found) == 6 + DEPTH
    assert set(encoder.extra_tokens.values()) == {0}


def test_each_output_alone_is_the_same(tmp_path: Path) -> None:
    write_model(tmp_path)
    encoder, (ids, mask) = loaded(tmp_path), padded_ids(0)
    called: list[bool] = []
    encoder.network.register_forward_hook(lambda *_: called.append(True))
    with torch.no_grad():
        everything = encoder(ids, mask)
        assert called.pop()
        for name in encoder.names:
            alone = encoder.only([name])(ids, mask)
            assert list(alone) == [name] and torch.equal(alone[name], everything[name])
            assert len(called) == (name == "mlm_logits")  # the head runs for nothing else
            called.clear()


def test_a_text_alone_has_the_rows_that_it_has_beside_longer_ones(tmp_path: Path) -> None:
    """With statistics of valid tokens that holds for layer means too; of all tokens padding shifts them."""
    write_model(tmp_path)
    ids, mask = padded_ids(0)
    for encoder, exact in ((loaded(tmp_path, counts_padding=False), True), (loaded(tmp_path), False)):
        with torch.no_grad():
            together, alone = encoder(ids, mask), encoder(ids[1:2, :7], mask[1:2, :7])
        for name, rows in alone.items():
            beside = together[name][1, :7] if rows.dim() == 3 else together[name][1]
            alike = torch.allclose(beside, rows[0], rtol=0, atol=1e-4)
            assert alike == (exact or not name.startswith("layer_")), name


def test_token_types_are_fed_where_there_are_some(tmp_path: Path) -> None:
    ids, mask = padded_ids(0)
    types = (torch.arange(12) > 5).long().expand(3, -1)
    bert = write_model(tmp_path / "bert")
    with torch.no_grad():
        expected = bert.base_model(ids, attention_mask=mask.long(), token_type_ids=types).last_hidden_state
        assert torch.equal(loaded(tmp_path / "bert")(ids, mask, types)["tokens"], expected)
        write_model(tmp_path / "roberta", "roberta")
        roberta = loaded(tmp_path / "roberta")
        assert torch.equal(roberta(ids, mask, types)["tokens"], roberta(ids, mask)["tokens"])


def test_without_a_head_in_the_weights_there_are_no_logits(tmp_path: Path) -> None:
    model = write_model(tmp_path, with_head=False)
    encoder, (ids, mask) = loaded(tmp_path), padded_ids(0)
    assert "mlm_logits" not in encoder.names and not encoder.settings.masked_lm
    with torch.no_grad():
        expected = model(ids, attention_mask=mask.long()).last_hidden_state
        assert torch.equal(encoder(ids, mask)["tokens"], expected)


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_smaller_one_is_rebuilt_from_its_export(kind: str, with_head: bool, tmp_path: Path) -> None:
    teacher = TextEncoder(make_model(kind, with_head))
    settings = resized(replace(teacher.settings, masked_lm=with_head), 2, 8)
    arguments = {
        "settings": asdict(settings),
        "teacher_depth": DEPTH,
        "projectors": {"layer_mean": WIDTH, "cls": WIDTH},
    }
    torch.manual_seed(0)
    student = build_network("encoder", None, **arguments).eval()
    pixels = {"image_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}  # what any export says of an input
    document = {"architecture": "encoder", "arguments": arguments, "num_classes": None, "class_names": None}
    export_network(tmp_path, student, document | pixels)
    rebuilt, _ = load_exported(tmp_path)
    ids, mask = padded_ids(teacher.network.config.pad_token_id)
    with torch.no_grad():
        expected, found = student(ids, mask), rebuilt(ids, mask)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    shapes = {name: tuple(rows.shape[1:]) for name, rows in found.items()}
    assert shapes["layer_mean"] == (12, WIDTH) and shapes["cls"] == (WIDTH,) and shapes["pooled"] == (8,)
    assert "layer_2" in found and "layer_4" in found and "layer_1" not in found
    assert shapes.get("mlm_logits") == ((12, VOCABULARY) if with_head else None)


def test_networks_that_are_no_encoder_are_refused(tmp_path: Path) -> None:
    sizes = {"vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    gpt2 = transformers.GPT2Config(n_embd=4, n_layer=1, n_head=1, **sizes)
    t5 = transformers.T5Config(d_model=4, d_kv=2, d_ff=4, num_layers=1, num_heads=1, **sizes)
    decoder = transformers.BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, is_decoder=True)
    whisper = transformers.WhisperConfig(d_model=4, encoder_attention_heads=1, decoder_attention_heads=1, **sizes)
    for config, found in (
        (gpt2, "a gpt2, a decoder"),
        (t5, "a t5, an encoder with a decoder"),
        (decoder, "a bert, a decoder"),
        (whisper, "a whisper, an encoder with a decoder"),
    ):
        with pytest.raises(BadInput, match=f"^here: expected an encoder of images or texts, found {found}; give"):
            load_encoder("here", config, tmp_path, dict)


def test_the_encoder_of_images_stays_one(tmp_path: Path) -> None:
    vision.write_model(tmp_path)
    config = transformers.AutoConfig.from_pretrained(str(tmp_path))
    network, _ = load_encoder("here", config, tmp_path, partial(load_file, tmp_path / "model.safetensors"))
    assert network.main_input_name == "pixel_values"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"model_type": "nosuch"}}, "nosuch"),
        ({"config": []}, "settings: Expected `object`, got `array` - at `..config`"),
        ({"config": {"model_type": "bert", "num_hidden_layers": 10**9}}, "1000000000 layers, expected 1 to 1024"),
        ({"config": {"model_type": "bert", "hidden_size": "wide"}}, "hidden_size|cannot load it"),
        ({"config": {"model_type": "gpt2"}, "masked_lm": True}, "a gpt2 has no masked-LM head"),
        ({"config": {}}, "settings.config names no model_type"),
    ],
)
def test_settings_of_no_encoder_are_one_line(change: dict[str, Any], words: str) -> None:
    settings = asdict(TextEncoder(make_model("bert")).settings) | change
    with pytest.raises(BadInput, match=words):
        build_network("encoder", None, settings=settings, teacher_depth=DEPTH, projectors={})
