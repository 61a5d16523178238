"""Resampling: the pixels of a view are those of integer arithmetic that any machine repeats."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.errors import BadInput
from shards.views.resampling import INTERPOLATIONS, LINEAR_EXACT, opencv, resample


def weights(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of `size` pixels the two of `length` that it lies between, and the second one's weight in 256ths."""
    places = length / size * (np.arange(size) + 0.5) - 0.5
    first = np.floor(places).astype(np.int64)
    share = np.rint((places - first) * 256).astype(np.int64)
    share[(first < 0) | (first >= length - 1)] = 0
    first = first.clip(0, length - 1)
    return first, (first + 1).clip(max=length - 1), share


def in_whole_numbers(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, horizontally and then vertically, in multiples of 1/256, rounded once at the end."""
    one, other, share = weights(pixels.shape[1], size)
    share = share[:, None]
    wide = pixels[:, one].astype(np.int64) * (256 - share) + pixels[:, other].astype(np.int64) * share
    one, other, share = weights(pixels.shape[0], size)
    share = share[:, None, None]
    return ((wide[one] * (256 - share) + wide[other] * share + (1 << 15)) >> 16).astype(np.uint8)


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 20), st.booleans(), st.integers(0, 99)
)
def test_linear_exact_is_arithmetic_of_whole_numbers(
    width: int, height: int, size: int, left: int, flip: bool, seed: int
) -> None:
    whole = np.random.default_rng(seed).integers(0, 256, (height, left + width, 3), np.uint8)
    cut, out = whole[:, left:], np.zeros((size, size, 3), np.uint8)
    resample(cut, flip, LINEAR_EXACT, out)
    expected = in_whole_numbers(cut, size)
    np.testing.assert_array_equal(out, expected[:, ::-1] if flip else expected)


@pytest.mark.parametrize("interpolation", [name for name in INTERPOLATIONS if name != LINEAR_EXACT])
@pytest.mark.parametrize("flip", [False, True])
def test_the_others_are_pillows(interpolation: str, flip: bool) -> None:
    cut, out = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    resample(cut, flip, interpolation, out)
    expected = np.asarray(Image.fromarray(cut).resize((20, 20), getattr(Image.Resampling, interpolation.upper())))
    np.testing.assert_array_equal(out, expected[:, ::-1] if flip else expected)


def test_a_machine_without_opencv_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.cache_clear()
    with pytest.raises(BadInput, match=r"needs OpenCV .* pip install 'teacher-shards\[opencv\]'"):
        resample(np.zeros((4, 4, 3), np.uint8), False, LINEAR_EXACT, np.zeros((2, 2, 3), np.uint8))
