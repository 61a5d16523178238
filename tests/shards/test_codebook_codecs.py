"""pq and rq: the nearest centroids, trained alike everywhere; more bytes lose less; what is no codec is refused."""

import faiss
import numpy as np
import pytest
import torch
from torch import Tensor

from shards.codec_error import variance_lost
from shards.codecs import make_codec, split_codecs
from shards.codecs.codebooks import Codebooks
from shards.codecs.nearest import books_of, nearest
from shards.errors import BadInput, Damaged

WIDTH = 16


def draw(num_vectors: int, seed: int = 0) -> Tensor:
    """Vectors whose channels hang together, a few of them holding most of the variance."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(9))
    return (torch.randn(num_vectors, WIDTH, generator=generator) * 0.7 ** torch.arange(WIDTH)) @ mixing


def trained(spec: str, num_vectors: int = 2000) -> Codebooks:
    codec = make_codec(spec, (WIDTH,)).calibrate(draw(num_vectors))
    assert isinstance(codec, Codebooks)
    return codec


@pytest.mark.parametrize("spec", ["pq:4", "pq:4,rotation=pca", "rq:3"])
def test_two_trainings_have_the_same_bytes_whatever_the_threads(spec: str) -> None:
    threads = torch.get_num_threads(), faiss.omp_get_max_threads()
    one = trained(spec).state()
    try:
        faiss.omp_set_num_threads(3)
        other = trained(spec).state()
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(threads[1])
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_pq_stores_the_nearest_centroid_of_each_part() -> None:
    codec, rows = trained("pq:4"), draw(50, 1)
    codes = codec.encode(rows)["codes"]
    assert codec.centroids is not None
    parts = rows.double().view(50, 4, 1, 4)
    expected = (parts - codec.centroids.double()).square().sum(-1).argmin(-1)
    assert codes.dtype == torch.uint8 and torch.equal(codes.long(), expected)
    decoded = torch.stack([codec.centroids[part][codes[:, part].long()] for part in range(4)], 1).flatten(1)
    assert torch.equal(codec.decode({"codes": codes}), decoded)


def test_rq_stores_greedily_what_is_nearest_to_what_is_left() -> None:
    codec, rows = trained("rq:3"), draw(50, 1)
    codes = codec.encode(rows)["codes"].long()
    assert codec.centroids is not None
    left = rows.double()
    for stage, centroids in enumerate(codec.centroids.double()):
        nearest = (left.unsqueeze(1) - centroids).square().sum(-1).argmin(-1)
        assert torch.equal(codes[:, stage], nearest)
        left = left - centroids[nearest]
    error = variance_lost(rows, codec.decode(codec.encode(rows)))
    around = rows.double() - rows.double().mean(0)
    assert error == pytest.approx(float(left.square().sum() / around.square().sum()), abs=1e-5)


def test_a_row_has_the_same_codes_in_any_batch() -> None:
    for codec, rows in ((trained(spec), draw(300, 2)) for spec in ("pq:4", "rq:2")):
        alone = torch.cat([codec.encode(row.unsqueeze(0))["codes"] for row in rows[:40]])
        assert torch.equal(alone, codec.encode(rows)["codes"][:40])


@pytest.mark.parametrize("away", [0.0, 1e5])
def test_what_float32_cannot_tell_apart_is_told_in_float64(away: float) -> None:
    """Vectors half-way between neighbours, also where all centroids lie far from 0, as those of some channels do."""
    generator = torch.Generator().manual_seed(6)
    centroids = torch.randn(2, 256, 4, generator=generator) + away
    apart = (centroids.double().unsqueeze(2) - centroids.double().unsqueeze(1)).square().sum(-1)
    neighbours = apart.masked_fill(apart == 0, torch.inf).argmin(-1, keepdim=True).expand(-1, -1, 4)
    vectors = ((centroids.double() + centroids.double().gather(1, neighbours)) / 2).float()
    books = books_of(centroids)
    distances = (vectors.double().unsqueeze(2) - centroids.double().unsqueeze(1)).square().sum(-1)
    least = distances.topk(2, largest=False).values
    told = least[..., 1] - least[..., 0] > 1e-9 * (1 + away)  # beyond what float64 rounds
    assert told.sum() > 100
    expected = distances.argmin(-1)
    assert torch.equal(nearest(vectors, books)[told], expected[told])
    assert torch.equal(nearest(vectors[:, 7:9], books), nearest(vectors, books)[:, 7:9])
    plain = torch.baddbmm(books.half.float().unsqueeze(1), vectors, centroids.mT, alpha=-1).argmin(-1)
    assert not torch.equal(plain[told], expected[told])


@pytest.mark.parametrize("width", [1, 4])
def test_lengths_whose_squares_float32_does_not_hold_are_compared_in_float64(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    vectors, centroids = (1e19 * torch.randn(1, rows, width, generator=generator) for rows in (3000, 256))
    distances = torch.cdist(vectors.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(nearest(vectors, books_of(centroids)), distances.argmin(-1))


def test_rows_that_are_compared_some_at_a_time_have_the_codes_of_all_together() -> None:
    """More than two such parts, the last of them short; and none."""
    generator = torch.Generator().manual_seed(7)
    vectors, centroids = (torch.randn(3, rows, 4, generator=generator) for rows in (1100, 256))
    distances = torch.cdist(vectors.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(nearest(vectors, books_of(centroids)), distances.argmin(-1))
    assert nearest(vectors[:, :0], books_of(centroids)).shape == (3, 0)


def test_a_program_that_sets_torchs_newer_precision_gets_the_same_codes() -> None:
    vectors, centroids = torch.randn(1, 64, 4), torch.randn(1, 16, 4)
    expected, former = nearest(vectors, books_of(centroids)), torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert torch.equal(nearest(vectors, books_of(centroids)), expected)
    finally:
        torch.backends.cuda.matmul.fp32_precision = former


@pytest.mark.parametrize(("fewer", "more"), [("pq:2", "pq:8"), ("rq:1", "rq:4"), ("pq:4", "pq:4,rotation=pca")])
def test_more_bytes_and_a_rotation_of_channels_that_hang_together_lose_less(fewer: str, more: str) -> None:
    rows = draw(500, 3)
    lost = [codec.error(rows)["variance_lost"] for codec in (trained(fewer), trained(more))]
    assert lost[1] < lost[0] < 1  # the mean alone loses all of it


def test_a_turn_by_principal_components_is_orthogonal() -> None:
    rotation = trained("pq:4,rotation=pca").state()["rotation"].double()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(WIDTH, dtype=torch.float64), rtol=0, atol=1e-5)


def test_rows_that_are_few_lose_nothing() -> None:
    rows = draw(200)
    assert torch.equal(
        make_codec("pq:4", (WIDTH,)).calibrate(rows).decode(make_codec("pq:4", (WIDTH,)).calibrate(rows).encode(rows)),
        rows,
    )


def test_the_state_makes_the_codec_again() -> None:
    for spec in ("pq:4,rotation=pca", "rq:2,centroids=16"):
        codec, rows = trained(spec), draw(20, 4)
        again = make_codec(codec.name, (WIDTH,)).with_state(codec.state())
        assert torch.equal(codec.encode(rows)["codes"], again.encode(rows)["codes"])
        assert torch.equal(codec.decode(codec.encode(rows)), again.decode(again.encode(rows)))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pq:3", "3 bytes do not divide rows of 16; these do: 1, 2, 4, 8, 16"),
        ("pq:some", "expected pq:B with a whole number B of bytes a token, found 'some'"),
        ("pq:4,rotation=none", "expected rotation=pca, found 'none'"),
        ("pq:4,turn=pca", "expected rotation=pca or centroids=K behind pq:B, found 'turn=pca'"),
        ("pq:4,centroids=257", "centroids must be 2 to 256, found '257'"),
        ("rq:17", "17 bytes are more than rows of 16 have numbers"),
    ],
)
def test_what_is_no_codebook_is_refused(spec: str, words: str) -> None:
    with pytest.raises(BadInput, match=f"--codec {spec}: .*{words}"):
        make_codec(spec, (WIDTH,))


def test_damaged_codebooks_are_refused() -> None:
    codec = trained("rq:2,centroids=16")
    state = codec.state()
    for damaged in ({}, state | {"centroids": state["centroids"][:1]}, state | {"errors": torch.tensor([0.0, np.nan])}):
        with pytest.raises(Damaged):
            codec.with_state(damaged)


def test_a_list_of_codecs_keeps_their_options_together() -> None:
    assert split_codecs("int8,pq:96,rotation=pca,topk:16") == ["int8", "pq:96,rotation=pca", "topk:16"]
    assert split_codecs("pq,rq") == ["pq", "rq"] and split_codecs("") == [""]
