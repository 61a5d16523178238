"""Augmentation: the random crops that images are fine-tuned on, and what is done to a whole batch of them."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision.transforms import v2

from evaluate.preset import FinetuneSettings
from evaluate.training import seed_of
from extract.modalities.crop import render
from shards.views.base import Row

if TYPE_CHECKING:
    from extract.sources.base import Sample

_DRAWING = (torch.rand, torch.randint, torch.randn, torch.randperm, torch.multinomial, Tensor.uniform_, Tensor.normal_)


class Drawing(TorchFunctionMode):
    """While the block runs, all that this thread draws at random through torch follows from `seed` alone.

    torchvision's transforms draw from the one global generator, at which threads would take turns by chance; a function
    mode is a thread's own.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        """`function`, with this generator in the place of the global one where it takes one."""
        keywords = keywords or {}
        return function(*arguments, **keywords | {"generator": self.generator} if function in _DRAWING else keywords)


class Augmentation:
    """A new random resized crop of a sample each epoch, flipped and put through RandAugment; batches mixed and erased.

    Crop: Szegedy et al. 2015 (arXiv:1409.4842), section 6. RandAugment: Cubuk et al. 2019 (arXiv:1909.13719),
    section 3.
    """

    def __init__(self, image_size: int, settings: FinetuneSettings, num_classes: int, seed: int) -> None:
        self.image_size, self.settings, self.seed = image_size, settings, seed
        self.mix = mixing(settings, num_classes)

    def make(self, sample: "Sample", epoch: int) -> tuple[Row, dict[str, Any]]:
        """The pixels of a sample in one epoch, fixed by (seed, key, epoch); no facts."""
        assert sample.image is not None
        with Drawing(seed_of(self.seed, sample.key, epoch)):
            crop, augment = self._transforms
            drawn = crop.make_params([sample.image])
            box = (drawn["left"], drawn["top"], drawn["width"], drawn["height"])
            # rendered as every other view of the project: the same RGB of any mode, the same filter
            view = Image.fromarray(render(sample.image, box, False, self.image_size))
            return {"pixels": np.asarray(augment(view))}, {}

    def batch(self, inputs: dict[str, Tensor], labels: Int64[Tensor, " batch"]) -> tuple[dict[str, Tensor], Tensor]:
        """Prepared images with rectangles erased, and mixed; the labels mixed as they are. Draws as torch does."""
        erase_(inputs["images"], self.settings.random_erasing)
        images, targets = self.mix(inputs["images"], labels)
        return {"images": images}, targets

    @cached_property
    def _transforms(self) -> tuple[v2.RandomResizedCrop, v2.Transform]:
        settings = self.settings
        crop = v2.RandomResizedCrop(self.image_size, scale=settings.crop_scale)
        bilinear = v2.InterpolationMode.BILINEAR
        augment = v2.RandAugment(settings.randaugment_ops, settings.randaugment_magnitude, interpolation=bilinear)
        return crop, v2.Compose([v2.RandomHorizontalFlip(settings.flip), augment])


def erase_(inputs: Float[Tensor, "batch 3 height width"], share: float) -> None:
    """A rectangle of each of a `share` of normalised images is noise: RE-R of Zhong et al. 2017 (arXiv:1708.04896)."""
    erase = v2.RandomErasing(share, value="random", inplace=True)
    for image in inputs:
        erase(image)


def mixing(settings: FinetuneSettings, num_classes: int) -> v2.Transform:
    """Mixes each batch by mixup or by CutMix, which `switch` decides, labels too; by the only one whose alpha is not 0.

    Mixup: Zhang et al. 2017 (arXiv:1710.09412), section 2; CutMix: Yun et al. 2019 (arXiv:1905.04899), section 3.1.
    """
    mixes = [
        (kind(alpha=alpha, num_classes=num_classes), weight)
        for kind, alpha, weight in (
            (v2.MixUp, settings.mixup, 1 - settings.switch),
            (v2.CutMix, settings.cutmix, settings.switch),
        )
        if alpha > 0 and weight > 0
    ]
    if not mixes:
        return v2.Identity()
    transforms, weights = zip(*mixes, strict=True)
    return v2.RandomChoice(transforms, list(weights))
