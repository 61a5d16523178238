"""Encoders of `transformers` by what they are fed: a text encoder needs no more than its inputs' names."""

from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from extract.networks.hub_encoder import load_encoder
from extract.networks.named_tokens import TokenEncoder
from shards.errors import BadInput
from tests.extract.test_hugging_face_teachers import write_model

TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}


class TextTokens(TokenEncoder):
    """A text encoder whose first token is CLS."""

    def __init__(self, network: transformers.PreTrainedModel) -> None:
        super().__init__(network)
        self.name_targets(1, True, network.config.num_hidden_layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return self.by_name({"input_ids": input_ids, "attention_mask": attention_mask}, attention_mask.bool())


def bert(folder: Path) -> tuple[transformers.BertModel, TextTokens]:
    """A tiny BERT, and what is loaded of the folder that it was saved to with a head."""
    torch.manual_seed(0)
    whole = transformers.BertForMaskedLM(transformers.BertConfig(**TEXT)).eval()
    whole.save_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(str(folder))
    read_state = partial(load_file, folder / "model.safetensors")
    network, prefix = load_encoder("here", config, folder, read_state, main_input="input_ids")
    assert prefix == ""
    return whole.bert, TextTokens(network.eval())


def test_a_text_encoder_gives_its_targets_and_keeps_padding_out(tmp_path: Path) -> None:
    original, encoder = bert(tmp_path)
    ids = torch.randint(1, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with torch.no_grad():
        found, expected = encoder(ids, mask), original(ids, attention_mask=mask, output_hidden_states=True)
        alone = encoder(ids[1:, :4], mask[1:, :4])
    assert encoder.depth == 2
    assert {name: tuple(rows.shape[1:]) for name, rows in found.items()} == {
        **{"layer_mean": (7, 16), "layer_mean_no_cls": (6, 16), "tokens": (7, 16), "cls": (16,), "pooled": (16,)},
        **{"layer_mean_no_norm": (7, 16), "layer_1": (7, 16), "layer_2": (7, 16)},
    }
    torch.testing.assert_close(found["tokens"], expected.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["cls"], expected.hidden_states[-1][:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found["pooled"][1], expected.last_hidden_state[1, 1:4].mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(found["pooled"][1:], alone["pooled"], rtol=0, atol=1e-5)
    assert encoder.extra_tokens["tokens"] == 1
    chosen = encoder.only(["pooled"])(ids, mask)
    assert list(chosen) == ["pooled"] and torch.equal(chosen["pooled"], found["pooled"])


def test_an_encoder_of_another_input_is_refused(tmp_path: Path) -> None:
    bert(tmp_path / "bert")
    write_model(tmp_path / "vit")
    for name, main_input, expected in (
        ("bert", "pixel_values", "expected a vision encoder, found a bert of input_ids"),
        ("vit", "input_ids", "expected a text encoder, found a vit of pixel_values"),
    ):
        config = transformers.AutoConfig.from_pretrained(str(tmp_path / name))
        read_state = partial(load_file, tmp_path / name / "model.safetensors")
        with pytest.raises(BadInput, match=f"^here: {expected}; give another model$"):
            load_encoder("here", config, tmp_path / name, read_state, main_input=main_input)
