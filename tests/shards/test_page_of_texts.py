"""The page's sheet of texts: tokens, the guesses of a teacher, and dense rows as colours, against what is stored."""

import base64
import io
import os
from pathlib import Path

import caches
import numpy as np
import pytest
import texts
from PIL import Image

from shards.cache import viewsets_at
from shards.decode import codec_of, read_decoded
from shards.page.sheet import Sheet, sheet_of
from shards.reader import TargetSet, ViewSet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sheet]:
    folder = tmp_path_factory.mktemp("texts")
    data, encoder = texts.write_corpus(folder / "data"), texts.write_encoder(folder / "encoder")
    flags = ("--data", f"text:{data}", "--view", "blocks:size=16,pack=none", "--devices", "cpu", "--codec", "float32")
    caches.extract("--teacher", f"hf:{encoder}", "--out", folder / "c", "--target", "layer_mean,mlm_logits", *flags)
    (listed,) = viewsets_at((str(folder / "c"),))
    found = sheet_of(listed, 8)
    assert found is not None and not found.problems
    return listed.folder, found


def test_tokens_and_guesses_are_those_that_are_stored(sheet: tuple[Path, Sheet]) -> None:
    import tokenizers

    folder, found = sheet
    words = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    viewset, path = ViewSet(folder), next(path for path in (folder / "targets").iterdir() if "mlm" in path.name)
    targetset = TargetSet(path)
    assert found.are_texts and len(found.views) == 8
    for view in found.views:
        sample = list(viewset.plan.keys).index(view.key)
        row = viewset.row(0, sample)
        assert view.words == [words.id_to_token(token) for token in row["tokens"][: int(row["length"])].tolist()]
        logits = read_decoded(targetset, codec_of(targetset), 0, np.array([sample]))[0]
        guesses = view.said[path.name].guesses
        assert [token for token, _, _ in guesses] == view.words
        best = logits.softmax(-1).max(-1)
        assert [guess for _, guess, _ in guesses] == [words.id_to_token(one) for one in best.indices[: len(guesses)]]
        assert [share for _, _, share in guesses] == best.values[: len(guesses)].tolist()


def test_dense_rows_are_colours_of_the_content_alone(sheet: tuple[Path, Sheet]) -> None:
    folder, found = sheet
    name = next(path.name for path in (folder / "targets").iterdir() if "layer_mean" in path.name)
    colours = []
    for view in found.views:
        content = base64.b64decode((view.said[name].picture or "").partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert pixels.shape == (1, 16, 4) and not view.said[name].is_map  # a line, though 16 is a square
        shown = pixels.reshape(-1, 4)
        assert int((shown[:, 3] == 255).sum()) == len(view.words)  # padding is transparent
        colours.append(shown[shown[:, 3] == 255, :3])
    assert len(np.unique(np.concatenate(colours), axis=0)) > 8


def test_a_cache_in_a_folder_whose_name_is_no_utf8_has_its_words_too(sheet: tuple[Path, Sheet], tmp_path: Path) -> None:
    folder, found = sheet
    copied = caches.copied(folder, tmp_path / os.fsdecode(b"c\xff") / folder.name)
    (listed,) = viewsets_at((str(copied),))
    again = sheet_of(listed, 8)
    assert again is not None and not again.problems
    assert [(view.words, view.lines) for view in again.views] == [(view.words, view.lines) for view in found.views]
