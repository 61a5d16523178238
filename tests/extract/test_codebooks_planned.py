"""What a plan says of codebooks: where they are offered, what they learn from, what they leave of unseen vectors."""

import importlib.util

import pytest
import torch

from extract.bill.codebooks import calibration_of, codebook_codecs, samples_to_learn, unseen_error
from shards.codecs import make_codec
from shards.codecs.features import Features

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="the extra pq is not installed")


@needs_faiss
def test_they_are_offered_where_a_run_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(codebook_codecs((197, 768), 2)) == ["pq:96"] and list(codebook_codecs((384,), 256)) == ["pq:48"]
    assert not codebook_codecs((384,), 255)  # fewer vectors than centroids: refused by a run
    assert not codebook_codecs((197, 131), 1000)  # a prime
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not codebook_codecs((197, 768), 1000)


@needs_faiss
def test_a_codec_learns_from_as_many_samples_as_a_run_gives_it() -> None:
    codec = make_codec("pq:2,centroids=16", (8,))
    vectors, tokens = Features(torch.randn(5, 8)), Features(torch.randn(5, 10, 8))
    valid = torch.arange(10).expand(5, -1) < 1
    for rows, samples in ((vectors, 640), (tokens, 256), (tokens.within(valid), 640)):
        found = calibration_of(codec, rows, 1000)
        assert (found.samples, found.vectors > 0, found.seconds > 0) == (samples, True, True)
        assert found.unseen == 32
    assert calibration_of(codec, vectors, 300).samples == 300
    assert [calibration_of(codec, vectors, number).unseen for number in (300, 640, 650)] == [0, 0, 10]
    int8 = calibration_of(make_codec("int8", (8,)), vectors, 1000)
    assert (int8.seconds, int8.unseen) == (0, 0)
    assert calibration_of(make_codec("float16", (8,)), vectors, 1000).samples == 0
    assert samples_to_learn(codec, (10, 8), 16) == 64 + 16


@needs_faiss
def test_a_cosine_is_that_of_vectors_that_were_not_learnt() -> None:
    """Few vectors are known by heart; what is said of others is no more than many would reach, and says so."""
    codec, drawn = make_codec("pq:2,centroids=16", (8,)), torch.Generator().manual_seed(0)
    rows = Features(torch.randn(80, 10, 8, generator=drawn))
    few, many = unseen_error(codec, rows[:8], 16), unseen_error(codec, rows, 16)
    by_heart = codec.calibrate(rows[:6].vectors).error(rows[:6].vectors)["cosine_mean"]
    assert few.startswith(">=") and float(few[2:]) < float(many) < by_heart
    assert unseen_error(codec, rows[:2], 16) == "-"
