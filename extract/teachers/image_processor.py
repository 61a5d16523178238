"""What a vision encoder of the Hugging Face hub is fed: its image processor's size, mean and deviation."""

import sys
from pathlib import Path
from typing import Any

import transformers

from extract.modalities.image import IMAGENET_MEAN, IMAGENET_STD, ImageInput
from extract.networks import MAX_SIZE
from extract.networks.hub_encoder import readable_errors
from extract.networks.named_tokens import square
from shards.errors import BadInput

PROCESSORS = ("preprocessor_config.json", "processor_config.json")

Colour = tuple[float, float, float]


def read_input(flag: str, folder: Path, config: transformers.PretrainedConfig, image_size: int | None) -> ImageInput:
    """The image processor's values; without its file the config's size and ImageNet's mean and std, said aloud."""
    size = square(config, "image_size")
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    described = any((folder / name).is_file() for name in PROCESSORS)
    if described:
        with readable_errors(flag):
            processor = transformers.AutoImageProcessor.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        values = processor.to_dict()
        size = _size_of(values) or size
        mean, std = _mean_and_std(flag, values)
    size = image_size or size
    if size is None or size > MAX_SIZE:
        raise BadInput(f"{flag}: tells no square image size of at most {MAX_SIZE} pixels; give --image_size")
    if not described:
        found = f"images of {size} pixels, ImageNet's mean and std"
        print(f"extract: {flag}: no {PROCESSORS[0]}: taking {found}", file=sys.stderr)
    return ImageInput(size, mean, std)


def _size_of(values: dict[str, Any]) -> int | None:
    """The side of the square that an image processor's last step leaves; None where it leaves none."""
    last = (values.get("crop_size") if values.get("do_center_crop") else None) or values.get("size") or {}
    sides = {last[name] for name in ("height", "width", "shortest_edge") if last.get(name)}
    return int(sides.pop()) if len(sides) == 1 else None


def _mean_and_std(flag: str, values: dict[str, Any]) -> tuple[Colour, Colour]:
    """For pixels in [0, 1], of a processor that first multiplies pixels in [0, 255] by its own factor."""
    factor = round(255 * values["rescale_factor"], 6) if values.get("do_rescale", True) else 255.0
    if not values.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1 / factor, 1 / factor, 1 / factor)
    return _colour(flag, values["image_mean"], factor), _colour(flag, values["image_std"], factor)


def _colour(flag: str, values: Any, factor: float) -> Colour:
    try:
        red, green, blue = (float(value) / factor for value in values)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{flag}: its image processor is not for 3 channels ({values!r:.60})") from error
    return red, green, blue
