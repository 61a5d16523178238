"""Training views: random crops of a source, made on the fly by threads, each fixed by (seed, key, epoch)."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision.transforms import v2

from evaluate.preset import FinetuneSettings
from evaluate.views import LabelledBatch, LabelledView, read_ahead, read_labelled
from extract.modalities.crop import render
from shards.order import permutation

if TYPE_CHECKING:
    from extract.sources.base import Source

_DRAWING = (torch.rand, torch.randint, torch.randn, torch.randperm, torch.multinomial, Tensor.uniform_, Tensor.normal_)


def seed_of(*parts: object) -> int:
    """A seed fixed by `parts`, for torch's generators, which use 32 bits."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:4], "little")


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


@dataclass(frozen=True)
class TrainingViews:
    """A new random resized crop of every sample each epoch, flipped and put through RandAugment, in shuffled batches.

    Crop: Szegedy et al. 2015 (arXiv:1409.4842), section 6. RandAugment: Cubuk et al. 2019 (arXiv:1909.13719),
    section 3.
    """

    source: "Source"
    image_size: int
    settings: FinetuneSettings
    seed: int
    num_threads: int

    @property
    def num_batches(self) -> int:
        """Batches an epoch; the last, incomplete one is dropped, of other samples each time."""
        return len(self.source.keys) // self.settings.batch_size

    def epoch(self, epoch: int) -> Iterator[LabelledBatch]:
        """One pass. Within a batch the order is random too, as mixing pairs neighbours."""
        order = permutation(len(self.source.keys), self.seed, epoch)[: self.num_batches * self.settings.batch_size]
        batches = order.reshape(self.num_batches, -1).tolist()
        yield from read_ahead(lambda index: self._read(index, epoch), batches, self.num_threads)

    def _read(self, index: int, epoch: int) -> LabelledView:
        sample, label = read_labelled(self.source, index)
        assert sample.image is not None
        with Drawing(seed_of(self.seed, sample.key, epoch)):
            crop, augment = self._transforms
            place = crop.make_params([sample.image])
            box = (place["left"], place["top"], place["width"], place["height"])
            # rendered as every other view of the project: the same RGB of any mode, the same filter
            view = Image.fromarray(render(sample.image, box, False, self.image_size))
            return {"pixels": np.asarray(augment(view))}, label

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
