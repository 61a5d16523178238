"""A network trained here before as a teacher: `run:DIR`, the folder of a finished `python -m distill`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from extract.modalities.pair import PairInput
from extract.networks import exported_input, load_exported
from extract.networks.pair import PairNetwork
from extract.networks.pair_part import PairPart
from extract.teachers.base import Teacher, freeze
from shards.errors import BadInput
from shards.identity import canonical_json, sha256_of

if TYPE_CHECKING:
    from extract.networks.data2vec2 import NamedOutputs


def load(spec: str, weights: str | None, size: int | None) -> Teacher:
    """The network exported to the folder behind `run:`, with the preprocessing it was trained with.

    Of a student of images with captions the part that sees images. BadInput for heads on two cached towers.
    """
    if weights is not None:
        raise BadInput(f"--weights {weights}: {spec} brings its own weights; drop --weights")
    folder = spec.partition(":")[2]
    if not folder:
        raise BadInput("--teacher run: names no folder; give --teacher run:DIR, the folder of a finished run")
    run_dir = Path(folder).expanduser().resolve()
    network, config = load_exported(run_dir)
    inputs = exported_input(config, str(run_dir), run_dir, size)
    if inputs.of_targets:
        raise BadInput(
            f"--teacher {spec}: its student takes the stored rows of two teachers, and no images or texts; give one of "
            "these teachers, or a run whose student takes images"
        )
    class_names = None if config["class_names"] is None else tuple(config["class_names"])
    name = re.sub(r"[^a-z0-9_.-]+", "-", f"run-{run_dir.name.lower()}").strip("-.")
    architecture, settings = config["architecture"], config["arguments"].get("settings")
    if settings is not None:  # what its tensors' shapes do not tell: heads, norms, targets
        architecture += f"/{sha256_of(canonical_json(config['arguments']))[:16]}"
        network = cast("NamedOutputs", network).by_own_blocks()
    if isinstance(network, PairNetwork):
        architecture += f"/{sha256_of(canonical_json(config['arguments']))[:16]}/image"
        network, inputs = PairPart(network, "image"), cast(PairInput, inputs).image
    return replace(freeze(name, architecture, network, inputs, class_names), settings=settings)
