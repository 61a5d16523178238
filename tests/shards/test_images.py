"""Images: stored pixels decode alike for everybody, and what is no view of that size is refused."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.errors import BadInput, Damaged
from shards.views.image import decode, encode, ending, parse_image_format

PNG, JPEG = parse_image_format("png"), parse_image_format("jpeg")


def photo(height: int = 32, width: int = 24, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise, as photos have."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth) ^ generator.integers(0, 4, (height, width, 3), dtype=np.uint8)


def decoded(content: bytes, height: int, width: int) -> np.ndarray:
    out = np.zeros((height, width, 3), np.uint8)
    decode(content, out)
    return out


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_png_keeps_every_pixel(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(encode(pixels, PNG), height, width), pixels)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_jpeg_decodes_as_pillow_decodes_it(height: int, width: int, seed: int) -> None:
    content = encode(photo(height, width, seed), JPEG)
    by_pillow = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.abs(decoded(content, height, width) - by_pillow).max() <= 2


def test_jpeg_is_near_and_nearer_at_a_higher_quality() -> None:
    pixels = photo()
    errors = [
        np.abs(decoded(encode(pixels, parse_image_format(f"jpeg:{quality}")), 32, 24) - pixels.astype(int)).mean()
        for quality in (20, 60, 95)
    ]
    assert errors[2] < 4 and errors[2] < errors[1] < errors[0]


def test_equal_pixels_give_equal_bytes() -> None:
    for image_format in (PNG, JPEG):
        assert encode(photo(), image_format) == encode(photo().copy(), image_format)
        assert encode(photo(), image_format) == encode(photo()[:, ::-1][:, ::-1], image_format)  # no matter the strides


def test_rows_are_decoded_into_the_buffer_given() -> None:
    batch = np.zeros((3, 32, 24, 3), np.uint8)
    decode(encode(photo(), JPEG), batch[1])
    assert batch[1].any() and not batch[0].any() and not batch[2].any()


@pytest.mark.parametrize("image_format", [PNG, JPEG])
def test_another_size_is_refused(image_format: dict) -> None:
    with pytest.raises(Damaged, match="24 x 32 pixels, expected 24 x 24"):
        decoded(encode(photo(), image_format), 24, 24)


@pytest.mark.parametrize("image_format", [PNG, JPEG])
@pytest.mark.parametrize("keep", [2, 20, 300, -60])
def test_a_cut_image_is_refused(image_format: dict, keep: int) -> None:
    with pytest.raises(Damaged, match="cannot be decoded"):
        decoded(encode(photo(), image_format)[:keep], 32, 24)


@settings(max_examples=200)
@given(st.sampled_from([PNG, JPEG]), st.data())
def test_altered_bytes_are_pixels_or_damaged_and_nothing_else(image_format: dict, data: st.DataObject) -> None:
    content = bytearray(encode(photo(), image_format))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Damaged):
        decoded(bytes(content[: data.draw(st.integers(1, len(content)))]), 32, 24)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8" + b"\0" * 100, b"GIF89a" + b"\0" * 100])
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(Damaged, match="cannot be decoded"):
        decoded(content, 8, 8)


def test_only_the_two_stored_formats_are_read() -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "BMP")
    with pytest.raises(Damaged, match="cannot be decoded"):
        decoded(buffer.getvalue(), 32, 24)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("jpeg", {"format": "jpeg", "quality": 95, "subsampling": "420"}),
        ("jpeg:80", {"format": "jpeg", "quality": 80, "subsampling": "420"}),
        ("png", {"format": "png"}),
    ],
)
def test_a_format_is_parsed(text: str, parsed: dict) -> None:
    assert parse_image_format(text) == parsed
    assert ending(parsed) == ("png" if text == "png" else "jpg")


@pytest.mark.parametrize("text", ["", "jpg", "jpeg:0", "jpeg:101", "jpeg:high", "jpeg:-1", "jpeg:²", "png:9", "webp"])
def test_another_format_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="--view format="):
        parse_image_format(text)
