"""Augment: a view is fixed by (seed, key, view) alone, and every crop lies inside its image."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from extract.modalities.crop import Augment, draw, parse_augment, render
from extract.modalities.draws import Uniform, draw_tokens
from shards.errors import BadInput

GOLDEN_TOKENS = [0, 20, 24, 25, 92, 106, 107, 139]
sides = st.integers(1, 3000)
keys = st.text(max_size=20)


@st.composite
def augments(draw: st.DrawFn) -> Augment:
    scale = sorted(draw(st.tuples(st.floats(0.001, 1), st.floats(0.001, 1))))
    ratio = sorted(draw(st.tuples(st.floats(0.05, 20), st.floats(0.05, 20))))
    seed = draw(st.none() | st.integers(-(10**18) + 1, 10**18 - 1))
    return Augment("crop", (scale[0], scale[1]), (ratio[0], ratio[1]), draw(st.floats(0, 1)), seed=seed)


@pytest.mark.slow
@given(st.integers(-(2**40), 2**40), keys, st.integers(0, 10_000))
def test_uniform_numbers_are_fixed_by_seed_key_and_view(seed: int, key: str, view: int) -> None:
    first, again = Uniform(seed, key, view), Uniform(seed, key, view)
    numbers = [first() for _ in range(20)]
    assert numbers == [again() for _ in range(20)]
    assert all(0 <= number < 1 for number in numbers)
    for other in (Uniform(seed + 1, key, view), Uniform(seed, key + "x", view), Uniform(seed, key, view + 1)):
        assert [other() for _ in range(3)] != numbers[:3]


def test_uniform_numbers_are_these_very_ones() -> None:
    # golden values: every stored view hangs on them
    uniform = Uniform(0, "digit-0000", 0)
    assert [round(uniform(), 12) for _ in range(3)] == [0.875691998434, 0.921005769333, 0.767160555497]
    uniform = Uniform(7, "n01440764/n01440764_10026", 1)
    assert draw(Augment("crop"), 500, 375, uniform) == ((30, 18, 352, 293), True)


@given(st.data(), st.integers(1, 300), st.integers(0, 5), st.integers(0, 9), keys, st.integers(0, 99))
def test_kept_tokens_are_ascending_and_the_first_ones_always_among_them(
    data: st.DataObject, num_tokens: int, num_extra: int, seed: int, key: str, view: int
) -> None:
    num_extra = min(num_extra, num_tokens)
    keep = data.draw(st.integers(max(1, num_extra), num_tokens))
    drawn = draw_tokens(seed, key, view, keep, num_tokens, num_extra).tolist()
    assert len(drawn) == keep and drawn == sorted(set(drawn)) and drawn[0] >= 0 and drawn[-1] < num_tokens
    assert drawn[:num_extra] == [*range(num_extra)]
    assert drawn == draw_tokens(seed, key, view, keep, num_tokens, num_extra).tolist()


def test_kept_tokens_are_these_very_ones() -> None:
    # golden values: every stored position hangs on them
    assert draw_tokens(0, "digit-0000", 0, 8, 197, 1).tolist() == GOLDEN_TOKENS
    drawn = {
        tuple(draw_tokens(seed, key, view, 8, 197, 1))
        for seed, key, view in ((0, "digit-0000", 0), (1, "digit-0000", 0), (0, "digit-0001", 0), (0, "digit-0000", 1))
    }
    assert len(drawn) == 4


def test_every_token_is_kept_as_often_as_any_other() -> None:
    counts = np.zeros(20)
    for index in range(4000):
        counts[draw_tokens(0, str(index), 0, 6, 20, 1)] += 1
    assert counts[0] == 4000
    expected = 4000 * 5 / 19
    assert np.abs(counts[1:] - expected).max() < 4 * math.sqrt(expected)


def test_crop_and_tokens_are_drawn_from_streams_that_never_meet() -> None:
    crop = {Uniform(0, "key", view)() for view in range(50)}
    tokens = {Uniform(0, "key", view, 1)() for view in range(50)}
    assert len(crop | tokens) == 100


def test_uniform_numbers_are_uniform() -> None:
    numbers = np.array([Uniform(0, f"key-{index}", 0)() for index in range(4000)])
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] / 400 - 1).max() < 0.2
    assert np.abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.05


@given(augments(), sides, sides, st.integers(0, 9), keys)
def test_a_crop_lies_inside_its_image(augment: Augment, width: int, height: int, seed: int, key: str) -> None:
    (left, top, crop_width, crop_height), _ = draw(augment, width, height, Uniform(seed, key, 0))
    assert left >= 0 and top >= 0 and crop_width >= 1 and crop_height >= 1
    assert left + crop_width <= width and top + crop_height <= height


@given(st.integers(300, 2000), st.integers(300, 2000), st.integers(0, 99))
def test_a_crop_has_the_area_and_the_ratio_asked_for(width: int, height: int, seed: int) -> None:
    """Wherever one of ten attempts fits, which for these images and this scale one always does."""
    augment = Augment("crop", (0.1, 0.3), (0.75, 1.3))
    (_, _, crop_width, crop_height), _ = draw(augment, width, height, Uniform(seed, "key", 0))
    rounding = 1 / min(crop_width, crop_height)  # each side is rounded to whole pixels
    assert 0.1 * (1 - 2 * rounding) <= crop_width * crop_height / (width * height) <= 0.3 * (1 + 2 * rounding)
    assert 0.75 * (1 - 2 * rounding) <= crop_width / crop_height <= 1.3 * (1 + 2 * rounding)


@given(st.integers(1, 50), st.integers(20, 400), st.booleans())
def test_an_image_too_narrow_for_the_ratio_gets_its_central_crop(short: int, times: int, upright: bool) -> None:
    width, height = (short, short * times) if upright else (short * times, short)
    augment = Augment("crop", (0.9, 1.0), (3 / 4, 4 / 3))
    (left, top, crop_width, crop_height), _ = draw(augment, width, height, Uniform(0, "key", 0))
    assert min(crop_width, crop_height) == short  # the whole of the short side
    assert abs((2 * left + crop_width) - width) <= 1 and abs((2 * top + crop_height) - height) <= 1


def test_crops_are_distributed_as_torchvisions() -> None:
    """The same distribution from two implementations: mean and spread of area, log-ratio and place."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 300, 400)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)], float)
    ours = np.array([draw(Augment("crop"), 400, 300, Uniform(0, str(index), 0))[0] for index in range(3000)], float)
    ours = ours[:, [1, 0, 3, 2]]  # top, left, height, width
    for boxes in (ours, theirs):
        boxes[:, 3] *= boxes[:, 2]  # height, and area in the place of the width
    error = 4 * math.sqrt(2 / 3000)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=(error * theirs.std(0)).max(), rtol=0.05)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.06)


def test_half_of_the_views_are_flipped_and_views_differ() -> None:
    flips = [draw(Augment("crop"), 64, 64, Uniform(0, str(index), 0))[1] for index in range(2000)]
    assert np.mean(flips) == pytest.approx(0.5, abs=0.05)
    assert not any(draw(Augment("crop", flip=0.0), 64, 64, Uniform(0, str(i), 0))[1] for i in range(100))
    assert all(draw(Augment("crop", flip=1.0), 64, 64, Uniform(0, str(i), 0))[1] for i in range(100))
    assert len({draw(Augment("crop"), 500, 500, Uniform(0, "key", view)) for view in range(30)}) == 30


def test_a_resize_draws_nothing() -> None:
    assert draw(parse_augment("resize"), 40, 30, Uniform(0, "key", 0)) == ((0, 0, 40, 30), False)


@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(0, 9))
def test_a_view_is_torchvisions_resized_crop(width: int, height: int, flip: bool, seed: int) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import hflip, resized_crop

    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    box, _ = draw(Augment("crop"), width, height, Uniform(seed, "key", 0))
    left, top, crop_width, crop_height = box
    theirs = resized_crop(image, top, left, crop_height, crop_width, [16, 16], InterpolationMode.BICUBIC)
    np.testing.assert_array_equal(render(image, box, flip, 16), np.asarray(hflip(theirs) if flip else theirs))


def resize_view(image: Image.Image, size: int) -> np.ndarray:
    return render(image, (0, 0, *image.size), False, size)


def test_a_validation_view_is_the_whole_image() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    np.testing.assert_array_equal(resize_view(image, 16), np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_of_image_becomes_rgb(mode: str) -> None:
    pixels = resize_view(Image.new("RGB", (9, 7), "white").convert(mode), 8)
    assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8
    assert pixels.min() >= 254  # white stays white


@pytest.mark.parametrize("grey", [0, 1000, 32768, 65535])
def test_sixteen_bits_of_grey_are_scaled_and_not_cut(grey: int) -> None:
    image = Image.fromarray(np.full((7, 9), grey, np.uint16))
    assert image.mode == "I;16"
    assert (resize_view(image, 8) == grey // 256).all()


@pytest.mark.parametrize(("white", "grey"), [(255, 200), (1023, 512), (4095, 4000), (65535, 40_000)])
def test_a_pgm_of_any_depth_is_scaled_and_not_cut(white: int, grey: int) -> None:
    kind = ">u2" if white > 255 else "u1"
    image = Image.open(io.BytesIO(b"P5 9 7 %d " % white + np.full(63, grey, kind).tobytes()))
    assert np.abs(resize_view(image, 8).astype(float) - 255 * grey / white).max() <= 1


def test_sixteen_bits_of_grey_may_be_transparent() -> None:
    image = Image.fromarray(np.full((8, 8), 1000, np.uint16))
    image.info["transparency"] = 1000
    assert (resize_view(image, 8) == 255).all()
    image.info["transparency"] = 1001
    assert (resize_view(image, 8) == 3).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_an_unknown_range_are_refused(mode: str) -> None:
    with pytest.raises(BadInput, match=f"mode {mode}"):
        resize_view(Image.new(mode, (8, 8)), 8)


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (resize_view(image, 8) == 255).all()
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0, 0, 0] * 256)
    palette.info["transparency"] = 3
    assert (resize_view(palette, 8) == 255).all()
