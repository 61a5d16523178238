"""Pairs from tars to a cache: all captions are stored, one is read, a text teacher has a row for each."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from caches import command, contents, extract, targetset_of, viewset_of
from pairs import picture
from texts import POSITIONS

from extract.modalities.image import ImageInput
from extract.modalities.pair import PairInput
from extract.modalities.text import TextInput
from extract.modalities.tokenizer import TextTokenizer
from extract.teachers import load_teacher
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet, ViewSet

SIZE, NUM, CAPTIONS = 16, 24, 3


def test_a_view_has_its_image_and_all_its_captions(pair_cache: Path) -> None:
    viewset = ViewSet(viewset_of(pair_cache))
    assert viewset.codec.modality == "pair"
    assert viewset.identity["captions"] == CAPTIONS
    assert viewset.identity["augment"]["scale"] == [0.9, 1]
    for sample in range(NUM):
        assert viewset.storage.facts(1, sample)["captions"] == picture(int(viewset.plan.keys[sample][-5:]))[1]
    assert set(viewset.rows(0, [0, 1])) == {"pixels"}, "whoever names no tokenizer reads the images alone"


def test_captions_are_read_by_any_tokenizer_and_each_comes_up(pair_cache: Path, encoder: Path) -> None:
    tokenizer = TextTokenizer.of_folder("here", encoder)
    inputs = PairInput(ImageInput(SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), TextInput.of(12, tokenizer))
    whole = ViewSet(viewset_of(pair_cache))
    own = transformers.AutoTokenizer.from_pretrained(encoder)
    for seed in (0, 1):
        viewset = whole.read_by(inputs.reads(whole.codec, seed))
        drawn = []
        for epoch in range(12):
            rows = viewset.rows(0, range(NUM), epoch)
            again = viewset.rows(0, [5, 9], epoch)
            assert all(np.array_equal(again[name], rows[name][[5, 9]]) for name in rows), "drawn from the key alone"
            for sample in range(NUM):
                text = picture(sample)[1][int(rows["caption"][sample])]
                ids = [2, *own(text, add_special_tokens=False)["input_ids"], 3]  # between [CLS] and [SEP]
                assert rows["tokens"][sample].tolist() == ids + [0] * (12 - len(ids))
                assert rows["length"][sample] == len(ids)
            drawn.append(rows["caption"].tolist())
        seen = [set(column) for column in zip(*drawn, strict=True)]
        assert seen == [set(range(1 + sample % 3)) for sample in range(NUM)]
    other = whole.read_by(inputs.reads(whole.codec, 0))
    assert [other.rows(0, range(NUM), epoch)["caption"].tolist() for epoch in range(12)] != drawn


def test_a_text_teacher_has_a_row_a_caption(pair_cache: Path, encoder: Path) -> None:
    targetset = TargetSet(targetset_of(pair_cache, "tiny"))
    assert targetset.row_shape == (CAPTIONS, 16)
    # the pictures have 16 pixels, the encoder has 32 positions: captions are as long as the encoder reads
    assert targetset.identity["teacher"]["preprocessing"]["text"]["size"] == POSITIONS
    rows = read_decoded(targetset, codec_of(targetset), 1, np.arange(NUM))
    teacher = load_teacher(f"hf:{encoder}")
    inputs = teacher.inputs
    assert isinstance(inputs, TextInput)
    for sample in range(NUM):
        captions = picture(sample)[1]
        fields = inputs.tokenizer.rows([(caption,) for caption in captions], inputs.size)
        prepared = inputs.prepare({name: torch.from_numpy(values) for name, values in fields.items()})
        with torch.inference_mode():
            pooled = teacher.network(*prepared.values())["pooled"]
        # float32 sums over fewer positions in another order
        torch.testing.assert_close(rows[sample, : len(captions)], pooled, rtol=1e-4, atol=1e-5)
        assert not rows[sample, len(captions) :].any()


def test_views_are_made_alike_twice(pair_cache: Path, networks: Path, tmp_path: Path) -> None:
    request = json.loads((viewset_of(pair_cache) / "plan.json").read_text())["request"]
    flags = ("--data", request["data"], "--devices", "cpu", "--views", "2", "--batch_size", "8", "--shard_size", "16")
    view = ("--view", f"pair:size={SIZE},format=png")
    extract("--teacher", "none", "--out", tmp_path / "c", *flags, *view)
    first, second = (
        {name: data for name, data in contents(viewset_of(each)).items() if name.startswith("views/")}
        for each in (pair_cache, tmp_path / "c")
    )
    assert first == second


def test_the_sheet_has_the_captions_under_the_pictures(pair_cache: Path, tmp_path: Path) -> None:
    viewset = ViewSet(viewset_of(pair_cache))
    for sample in range(3):
        facts = viewset.storage.facts(0, sample)
        lines = viewset.codec.caption(viewset.row(0, sample), facts, viewset.folder)
        assert lines[-len(facts["captions"]) :] == picture(sample)[1]
    command("shards", "view", viewset_of(pair_cache), "--output", tmp_path / "sheet.png").succeeds()
