"""Masked views from a corpus to a student: teacher and student see the same masked tokens, and meet at these alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from caches import command, contents, copied, extract, reseal, reseal_records, targetset_of, viewset_of
from test_exactness import run
from texts import write_corpus, write_encoder

from extract.sources.naming import content_revision
from extract.teachers import load_teacher
from shards.codecs.features import Features
from shards.decode import codec_of, read_decoded
from shards.reader import TargetSet, ViewSet

SIZE, MASKED = 12, 3  # 0.3 of 10 tokens
VIEW = ("--view", f"blocks:size={SIZE},pack=none,mask=0.3")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "lines", 80)


def flags(encoder: Path, corpus: Path, cache: Path, *more: str) -> tuple[str | Path, ...]:
    small = ("--shard_size", "32", "--devices", "cpu", "--batch_size", "16", "--target", "mlm_logits")
    return ("--teacher", f"hf:{encoder}", "--data", f"text:{corpus}", "--out", cache, *small, *more)


@pytest.fixture(scope="module")
def cache(encoder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("masked") / "cache"
    extract(*flags(encoder, corpus, cache, *VIEW, "--codec", "float32", "--keep_tokens", str(MASKED), "--views", "2"))
    return cache


def test_views_hide_tokens_of_the_same_texts(cache: Path, corpus: Path, encoder: Path) -> None:
    lines = (corpus / "train.txt").read_text().splitlines()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    texts = [[2, *ids[: SIZE - 2], 3] for ids in tokenizer(lines, add_special_tokens=False)["input_ids"]]
    views = ViewSet(viewset_of(cache))
    first, second = (views.rows(view, range(len(lines))) for view in (0, 1))
    assert not np.array_equal(first["masked"], second["masked"])
    changed = 0
    for stored in (first, second):
        for tokens, positions, text in zip(stored["tokens"].tolist(), stored["masked"].tolist(), texts, strict=True):
            differ = [place for place, token in enumerate(text) if tokens[place] != token]
            assert set(differ) <= set(positions) - {0} and tokens[len(text) :] == [0] * (SIZE - len(text))
            changed += len(differ)
    assert 0.8 < changed / np.count_nonzero(np.stack([first["masked"], second["masked"]])) < 1


def test_what_is_kept_stands_where_tokens_are_masked(cache: Path, encoder: Path) -> None:
    views, targets = ViewSet(viewset_of(cache)), TargetSet(targetset_of(cache))
    model = transformers.AutoModelForMaskedLM.from_pretrained(encoder).eval()
    samples = np.arange(len(views.plan.keys))
    for view in (0, 1):
        stored = views.rows(view, samples.tolist())
        kept = read_decoded(targets, codec_of(targets), view, samples)
        assert isinstance(kept, Features) and kept.positions is not None
        mask = torch.arange(SIZE) < torch.from_numpy(stored["length"].astype(np.int64))[:, None]
        counted = kept.within(mask)
        assert counted.valid is not None
        for row, positions in enumerate(stored["masked"]):
            assert kept.positions[row][counted.valid[row]].tolist() == positions[positions > 0].tolist()
        with torch.no_grad():
            ids = torch.from_numpy(stored["tokens"].astype(np.int64))
            logits = model(input_ids=ids, attention_mask=mask.long()).logits
        expected = logits.gather(1, kept.positions[..., None].expand(-1, -1, logits.shape[-1]))[counted.valid]
        torch.testing.assert_close(counted.content().vectors, expected, rtol=0, atol=1e-5)


def test_a_student_learns_there_alone_as_from_the_live_teacher(cache: Path, encoder: Path, tmp_path: Path) -> None:
    teacher = load_teacher(f"hf:{encoder}", image_size=SIZE)
    values = {"student": "encoder:depth=2", "init": "teacher", "objective": "kl", "epochs": 2}
    ends = []
    for name, teachers in (("stored", []), ("live", [teacher])):
        summary = run(cache, tmp_path / name, "mlm_logits", teachers, **values)
        ends.append((tmp_path / name / "student.safetensors").read_bytes())
    assert ends[0] == ends[1] and summary["best_val_loss"] > 0


def test_a_cache_grows_by_views_to_the_same_bytes(cache: Path, encoder: Path, corpus: Path, tmp_path: Path) -> None:
    grown = tmp_path / "cache"
    extract(*flags(encoder, corpus, grown, *VIEW, "--codec", "float32", "--keep_tokens", str(MASKED)))
    extract(*flags(encoder, corpus, grown, "--codec", "float32", "--keep_tokens", str(MASKED), "--views", "2"))
    manifests = ("extract.yaml", "viewset.json", "targetset.json")  # which say what was asked for last
    one, other = contents(grown), contents(cache)
    assert one.keys() == other.keys()
    assert all(one[name] == other[name] for name in one if not name.endswith(manifests))


def test_no_view_is_made_of_other_texts_of_the_same_size(
    cache: Path, encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    """A revision covers names and sizes; the digests in commit records cover the tokens."""
    lines = (corpus / "train.txt").read_text().splitlines()
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines/train.txt").write_text("\n".join(lines[1:] + lines[:1]) + "\n")
    grown = copied(cache, tmp_path / "cache")
    asked = flags(encoder, tmp_path / "lines", grown, *VIEW, "--codec", "float32", "--keep_tokens", str(MASKED))
    refused = command("extract", *asked, "--views", "3")
    refused.refuses("is another image, text or label than the one in view 0", "restore the data")


def test_a_cache_of_before_whose_digests_lack_the_tokens_grows_with_such(
    cache: Path, encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    before, grown = content_revision(["", "None"])[:16], copied(cache, tmp_path / "cache")
    viewset = viewset_of(grown)
    for path in sorted(viewset.glob("commits/*.json")):
        reseal(path, lambda document: document.update(digests=[before] * len(document["digests"])))
    reseal_records(viewset, "viewset.json", *(f"commits/{path.name}" for path in viewset.glob("commits/*.json")))
    asked = flags(encoder, corpus, grown, *VIEW, "--codec", "float32", "--keep_tokens", str(MASKED))
    extract(*asked, "--views", "3")
    records = [json.loads(path.read_text()) for path in viewset.glob("commits/v02-*.json")]
    assert records and {digest for record in records for digest in record["digests"]} == {before}


@pytest.mark.slow
def test_the_recipe_is_picked_and_validation_is_masked_alike(
    cache: Path, encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    kept = ("--codec", "float32", "--keep_tokens", str(MASKED), "--split", "validation")
    extract(*flags(encoder, corpus, cache, *kept))
    found = command(
        "distill", "--shards", cache, "--run_dir", tmp_path / "run", "--student", "encoder:depth=2", "--devices", "cpu",
        "--batch_size", "16", "--precision", "float32", "--epochs", "4",
    ).succeeds()  # fmt: skip
    assert "mlm-distil: encoder:depth=2" in found.out and "80 samples of text" in found.out
    measured = json.loads((tmp_path / "run/summary.json").read_bytes())
    assert 0 < measured["best_val_loss"] < 1
    said = command("evaluate", "--run", tmp_path / "run", "--task", "fidelity").succeeds().out
    assert "kl" in said
    viewset = next(each for each in cache.glob("*validation*") if each.is_dir())
    shown = command("shards", "view", viewset, "--num", "3").succeeds().out
    assert "[MASK]" in shown and "masked" in shown
    command("shards", "verify", cache, "--recompute", "10").succeeds()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--view", "blocks:mask=1"), "'mask=1' is not"),
        (("--view", "blocks:mask=0"), "mask=SHARE (between 0 and 1)"),
        (("--view", "blocks:mask=nan"), "mask=SHARE (between 0 and 1)"),
        (("--view", "blocks:size=12,seed=3"), "seed: such views draw nothing"),
        ((*VIEW, "--keep_tokens", "4"), "at most 3 tokens of a view are masked, and these are kept; give 1 to 3"),
        (("--view", "blocks:size=12", "--views", "2"), "give a --view that draws (crop, blocks:mask=0.15)"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    more: tuple[str, ...], says: str, encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    command("extract", *flags(encoder, corpus, tmp_path / "cache", *more)).refuses(says)


def test_a_tokenizer_without_mask_and_another_share_are_refused(
    cache: Path, encoder: Path, corpus: Path, tmp_path: Path
) -> None:
    other = ("--view", f"blocks:size={SIZE},pack=none,mask=0.4")
    command("extract", *flags(encoder, corpus, cache, *other)).refuses("mask: the cache has 0.3, asked for 0.4")
    maskless = write_encoder(tmp_path / "maskless")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = maskless / name
        path.write_text(path.read_text().replace('"mask_token"', '"other_token"'))
    told = command("extract", *flags(maskless, corpus, tmp_path / "cache", *VIEW))
    told.refuses("--view mask=0.3: the teacher's tokenizer has no [MASK]")
