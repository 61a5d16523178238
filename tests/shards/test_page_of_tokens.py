"""Dense tokens as colours: of a text a line with every token, of a picture a map."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from shards.page.said import Said, _dense


def drawn(num_tokens: int, are_pictures: bool) -> tuple[Said, np.ndarray]:
    """One sample whose tokens are all different, and the pixels that show it."""
    rows = np.linspace(-1, 1, num_tokens)[:, None] * np.array([[1.0, 0.5, 0.25, 0.1]])
    said = _dense({(0, 0): (rows.astype(np.float32), np.arange(num_tokens))}, num_tokens, are_pictures)[0, 0]
    return said, np.asarray(Image.open(io.BytesIO(base64.b64decode((said.picture or "").partition(",")[2]))))


@pytest.mark.parametrize("num_tokens", [16, 128, 256])
def test_a_text_is_a_line_of_all_its_tokens(num_tokens: int) -> None:
    said, pixels = drawn(num_tokens, are_pictures=False)
    assert pixels.shape == (1, num_tokens, 4) and not said.is_map and (pixels[..., 3] == 255).all()
    assert (np.diff(pixels[0, :, 0].astype(int)) >= 0).all() or (np.diff(pixels[0, :, 0].astype(int)) <= 0).all()
    assert said.line.startswith(f"{num_tokens} tokens") and "without" not in said.line


@pytest.mark.parametrize(("num_tokens", "side", "extra"), [(64, 8, 0), (65, 8, 1), (197, 14, 1), (261, 16, 5)])
def test_a_picture_is_a_map_of_the_tokens_that_have_a_place(num_tokens: int, side: int, extra: int) -> None:
    said, pixels = drawn(num_tokens, are_pictures=True)
    assert pixels.shape == (side, side, 4) and said.is_map
    assert (f"without the first {extra}" in said.line) == (extra > 0)


def test_a_number_of_tokens_that_is_no_square_is_a_line_of_a_picture_too() -> None:
    said, pixels = drawn(24 * 20, are_pictures=True)
    assert pixels.shape == (1, 480, 4) and not said.is_map
