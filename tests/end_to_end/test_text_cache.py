"""Texts from a corpus to a cache: what is stored is what the tokenizer and the teacher say, padding left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from caches import command, contents, extract, targetset_of, viewset_of
from texts import write_corpus, write_encoder

from extract.teachers import load_teacher
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet, ViewSet

SIZE = 12


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "lines")


def flags(encoder: Path, corpus: Path, cache: Path, *more: str) -> tuple[str | Path, ...]:
    small = ("--shard_size", "7", "--devices", "cpu", "--batch_size", "3")
    return ("--teacher", f"hf:{encoder}", "--data", f"text:{corpus}", "--out", cache, *small, *more)


@pytest.fixture(scope="module")
def blocks(encoder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("blocks") / "cache"
    view = ("--view", f"blocks:size={SIZE}")
    extract(*flags(encoder, corpus, cache, *view, "--target", "layer_mean,pooled", "--codec", "float32"))
    return cache


@pytest.fixture(scope="module")
def texts(encoder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("texts") / "cache"
    view = ("--view", f"blocks:size={SIZE},pack=none", "--target", "tokens,layer_mean", "--codec", "float32")
    extract(*flags(encoder, corpus, cache, *view))
    return cache


def own_tokenizer(encoder: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(encoder)


def test_blocks_are_the_stream_of_all_documents_cut_into_runs(blocks: Path, corpus: Path, encoder: Path) -> None:
    lines = (corpus / "train.txt").read_text().splitlines()
    of_lines = own_tokenizer(encoder)(lines, add_special_tokens=False)["input_ids"]
    stream = [token for ids in of_lines for token in ids]
    runs = [stream[start : start + SIZE - 2] for start in range(0, len(stream), SIZE - 2)]
    views = ViewSet(viewset_of(blocks))
    stored = views.rows(0, range(len(runs)))
    assert len(views.plan.keys) == len(runs) and stored["tokens"].dtype == np.uint16
    for row, length, run in zip(stored["tokens"].tolist(), stored["length"].tolist(), runs, strict=True):
        assert row[:length] == [2, *run, 3] and row[length:] == [0] * (SIZE - length)
    starts = np.cumsum([0, *map(len, of_lines)])
    documents = np.searchsorted(starts, np.arange(len(runs)) * (SIZE - 2), "right") - 1
    offsets = np.arange(len(runs)) * (SIZE - 2) - starts[documents]
    assert list(views.plan.keys) == [f"{doc:08d}-{offset}" for doc, offset in zip(documents, offsets, strict=True)]
    assert [views.plan.keys.index(key) for key in views.plan.keys] == list(range(len(runs)))


def test_keys_and_tokens_are_files_and_not_lists(blocks: Path) -> None:
    folder = viewset_of(blocks)
    plan = json.loads((folder / "plan.json").read_bytes())
    assert plan["keys"] == [] and plan["keys_file"]["size"] == (folder / "keys.npy").stat().st_size
    assert not (folder / "views").exists() and not (blocks / ".scratch").exists()
    import zarr

    group = zarr.open_group(str(folder), mode="r")
    stored = ViewSet(folder).rows(0, range(len(group["tokens"][0])))
    assert np.array_equal(group["tokens"][0], stored["tokens"]) and np.array_equal(group["length"][0], stored["length"])


def test_targets_are_what_the_teacher_says_of_each_stored_row(texts: Path, encoder: Path) -> None:
    views, teacher = ViewSet(viewset_of(texts)), load_teacher(f"hf:{encoder}", image_size=SIZE)
    samples = np.arange(len(views.plan.keys))
    fields = {name: torch.from_numpy(rows) for name, rows in views.rows(0, samples.tolist()).items()}
    mask = torch.arange(SIZE) < fields["length"].long()[:, None]
    assert 0 < mask.sum() < mask.numel()
    with torch.no_grad():
        said = teacher.network(*teacher.inputs.prepare(fields).values())
    for target in ("tokens", "layer_mean"):
        targetset = TargetSet(targetset_of(texts, f"-{target}-"))
        rows = read_decoded(targetset, codec_of(targetset), 0, samples)
        assert torch.equal(rows[~mask], torch.zeros_like(rows[~mask]))
        torch.testing.assert_close(rows[mask], said[target][mask], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_whatever_is_killed_and_shared_the_files_are_the_same(
    blocks: Path, encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    view = ("--view", f"blocks:size={SIZE}", "--target", "layer_mean,pooled", "--codec", "float32", "--devices", "2")
    extract(*flags(encoder, corpus, tmp_path, *view))
    assert contents(tmp_path) == contents(blocks)


def test_another_teacher_of_that_vocabulary_needs_no_corpus(blocks: Path, tmp_path: Path, corpus: Path) -> None:
    import shutil

    cache = Path(shutil.copytree(blocks, tmp_path / "cache"))
    other = write_encoder(tmp_path / "other", seed=1, depth=2)
    corpus.rename(corpus.with_name("away"))
    try:
        done = extract(*flags(other, corpus, cache, "--target", "cls"))
    finally:
        corpus.with_name("away").rename(corpus)
    assert "using the stored views" in done.err and (targetset_of(cache, "other-cls") / "targetset.json").exists()


def test_kept_tokens_are_no_padding_while_there_are_others(encoder: Path, corpus: Path, tmp_path: Path) -> None:
    view = ("--view", f"blocks:size={SIZE},pack=none", "--target", "tokens", "--codec", "float32")
    extract(*flags(encoder, corpus, tmp_path, *view, "--keep_tokens", "5"))
    views, targets = ViewSet(viewset_of(tmp_path)), TargetSet(targetset_of(tmp_path))
    samples = np.arange(len(views.plan.keys))
    lengths = views.rows(0, samples.tolist())["length"].astype(int)
    for length, kept in zip(lengths, targets.read(0, samples)["positions"], strict=True):
        assert len(set(kept.tolist())) == 5 and (kept < length).sum() == min(5, length)


def test_every_shards_command_reads_texts(texts: Path, corpus: Path, tmp_path: Path) -> None:
    folder = targetset_of(texts, "-tokens-")
    command("shards", "list", texts).succeeds()
    assert "identity.modality" in command("shards", "info", viewset_of(texts)).succeeds().out
    command("shards", "verify", texts, "--recompute", "9").succeeds()
    shown = command("shards", "view", folder, "--num", "3").succeeds().out
    first = (corpus / "train.txt").read_text().splitlines()[6].split()
    assert f"[CLS] {' '.join(first[: SIZE - 2])} [SEP]" in shown and "00000006-0" in shown
    command("shards", "export", folder, "--output", tmp_path / "tars").succeeds()
    import webdataset

    samples = list(webdataset.WebDataset(sorted(map(str, (tmp_path / "tars").glob("*.tar"))), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == list(ViewSet(viewset_of(texts)).plan.keys)
    assert {"tokens.npy", "length.npy", "json"} <= samples[0].keys()


@pytest.mark.parametrize("name", ["tokens/c/0/1/0", "length/c/0/1", "tokens/zarr.json", "keys.npy", "tokenizer.json"])
def test_damage_is_told(blocks: Path, tmp_path: Path, name: str) -> None:
    import shutil

    cache = Path(shutil.copytree(blocks, tmp_path / "cache"))
    path = viewset_of(cache) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    damaged = command("shards", "verify", cache)
    assert damaged.status == 2 and name in damaged.err


def test_what_does_not_go_together_is_refused(blocks: Path, encoder: Path, corpus: Path, tmp_path: Path) -> None:
    others = write_encoder(tmp_path / "others", words=["one", "two", "three"])
    command("extract", *flags(others, corpus, blocks)).refuses("its tokenizer has 8 tokens", "another --out")
    new = flags(encoder, corpus, tmp_path / "new")
    command("extract", *new, "--view", "blocks:size=33").refuses("size=33", "32 positions")
    command("extract", *new, "--view", "blocks:size=2").refuses("size=2")
    command("extract", *new, "--view", "crop").refuses("--teacher")
    command("extract", *new, "--views", "2").refuses("--views 2", "all alike")
    digits = ("--teacher", f"hf:{encoder}", "--data", "digits", "--out", tmp_path / "new")
    command("extract", *digits).refuses("digits", "no texts")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/train.txt").write_text("\n\n\0\n")
    command("extract", *flags(encoder, tmp_path / "empty", tmp_path / "new")).refuses("holds no text")
    assert not (tmp_path / "new").exists()
    none = ("--teacher", "none", "--data", f"text:{corpus}", "--out", tmp_path / "new")
    command("extract", *none).refuses("--teacher", "tokenizer")


@pytest.mark.parametrize("wrong", [("--target", "nope"), ("--codec", "int9"), ("--keep_tokens", "13")])
def test_a_mistake_is_told_before_the_corpus_is_tokenised(
    wrong: tuple[str, str], encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    view = ("--view", f"blocks:size={SIZE}")
    command("extract", *flags(encoder, corpus, tmp_path / "cache", *view, *wrong)).refuses(wrong[1])
    assert not (tmp_path / "cache").exists()


def test_another_size_is_told_before_the_corpus_is_tokenised(blocks: Path, encoder: Path, corpus: Path) -> None:
    told = command("extract", *flags(encoder, corpus, blocks, "--view", "blocks:size=10"))
    told.refuses("size: the cache has 12, asked for 10")
    assert not (blocks / ".scratch").exists()


def test_pairs_of_sentences_are_not_stored(encoder: Path, tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text("a\tb\tlabel\nthe cat\tsat on\t0\nthe dog\tran\t1\n")
    told = command("extract", "--teacher", f"hf:{encoder}", "--data", f"sentences:{table}", "--out", tmp_path / "cache")
    told.refuses("sample train-000000 is a pair of sentences, which evaluate takes and no cache stores")
    assert not list((tmp_path / "cache").glob("*"))
