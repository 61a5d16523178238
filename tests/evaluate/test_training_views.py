"""The training views of fine-tuning: fixed by seed, key and epoch; and what is done to a whole batch."""

from dataclasses import replace

import pytest
import torch
from finetuning import settings
from torchvision.transforms import v2

from evaluate.augmentation import Augmentation, Drawing, erase_, mixing
from evaluate.views import TrainingViews
from extract.sources import open_source

DIGITS = open_source("digits", "train", limit=100)


def batches(seed: int = 0, epoch: int = 0, num_threads: int = 2, **changes: object) -> list[torch.Tensor]:
    make = Augmentation(20, settings(**changes), 10, seed).make
    views = TrainingViews(DIGITS, make, 32, seed, num_threads)
    return [tensor for fields, labels in views.epoch(epoch) for tensor in (fields["pixels"], labels)]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_views_are_the_same_for_any_number_of_threads_and_no_other_draw_is_disturbed() -> None:
    before = torch.get_rng_state()
    alone = batches(num_threads=1)
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn from the generator that all threads share
    torch.rand(7)
    assert equal(batches(num_threads=5), alone)
    assert len(alone) == 2 * 3 and alone[0].shape == (32, 20, 20, 3) and alone[0].dtype == torch.uint8


def test_epoch_and_seed_give_other_views_in_another_order() -> None:
    first = batches()
    for other in (batches(epoch=1), batches(seed=1)):
        assert not torch.equal(first[1], other[1]) and not torch.equal(first[0], other[0])


def test_each_setting_changes_what_is_seen() -> None:
    plain = batches(flip=0.0, randaugment_ops=0, crop_scale=(0.9, 1.0))
    for change in ({"flip": 1.0}, {"randaugment_ops": 2}, {"crop_scale": (0.1, 0.2)}):
        other = batches(**{"flip": 0.0, "randaugment_ops": 0, "crop_scale": (0.9, 1.0)} | change)
        assert torch.equal(plain[1], other[1]) and not torch.equal(plain[0], other[0])
    flipped = batches(flip=1.0, randaugment_ops=0, crop_scale=(0.9, 1.0))
    assert torch.equal(flipped[0].flip(2), plain[0])


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomResizedCrop(8),
        v2.RandomHorizontalFlip(0.5),
        v2.RandAugment(3, 9),
        v2.RandomErasing(1.0, value="random"),
        v2.RandomChoice([v2.Identity(), v2.RandomVerticalFlip(1.0)]),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_all_that_torchvision_draws_follows_from_the_seed(transform: v2.Transform) -> None:
    image, state = torch.rand(3, 16, 16), torch.get_rng_state()
    found = []
    for seed in (*range(6), *range(6)):
        with Drawing(seed):
            found.append(transform(image))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, found[:6], found[6:]))
    assert any(not torch.equal(found[0], other) for other in found[1:6])


def test_erasing_makes_a_rectangle_of_the_share_of_images_noise() -> None:
    torch.manual_seed(0)
    images = torch.full((400, 3, 12, 12), 5.0)
    erase_(images, 0.25)
    changed = (images != 5).flatten(1).any(1)
    assert 0.15 < changed.double().mean() < 0.35
    noise = images[images != 5]
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    erase_(untouched := torch.full((20, 3, 12, 12), 5.0), 0.0)
    assert (untouched == 5).all()


def test_mixing_mixes_images_and_labels_alike() -> None:
    labels = torch.arange(8)
    images = torch.nn.functional.one_hot(labels).float()[:, :, None, None].expand(-1, -1, 10, 10)
    for change in ({"switch": 0.0}, {"cutmix": 0.0}, {"switch": 1.0}, {"mixup": 0.0}):
        mix = mixing(settings(**change), 8)
        for seed in range(5):
            torch.manual_seed(seed)
            mixed, targets = mix(images.clone(), labels)
            torch.testing.assert_close(mixed.mean((2, 3)), targets)  # the share of pixels is the share of the label
        is_cutmix = bool(((mixed == 0) | (mixed == 1)).all())
        assert is_cutmix == (change in ({"switch": 1.0}, {"mixup": 0.0}))
    mixed, targets = mixing(settings(mixup=0.0, cutmix=0.0), 8)(images, labels)
    assert mixed is images and targets is labels


def test_the_switch_is_the_share_of_batches_that_cutmix_mixes() -> None:
    mix = mixing(replace(settings(), switch=0.25), 4)
    images, labels = torch.eye(4)[:, :, None, None].expand(-1, -1, 6, 6), torch.arange(4)
    torch.manual_seed(0)
    cut = sum(bool(((mixed == 0) | (mixed == 1)).all()) for mixed, _ in (mix(images, labels) for _ in range(300)))
    assert 0.18 < cut / 300 < 0.33
