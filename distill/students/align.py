"""Two heads that align two cached towers: `align:width=512,hidden=1024`; neither tower is loaded.

It reads the target sets of one view set: a row an image of one teacher, a row a caption of another (extract's --target
pooled or cls of an image teacher and of a text teacher), which are paired by the samples' keys.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from distill.agreement import NEIGHBOURS, linear_cka, mutual_knn
from distill.students.base import Student, StudentRequest
from extract.modalities.pair import TowersInput, tower_of
from extract.networks import build_network
from shards.command.ranges import COUNT
from shards.command.specs import parse_spec
from shards.decode import codec_of, read_decoded, spread
from shards.errors import BadInput
from shards.reader import TargetSet, ViewSet

COMPARED = 2000
"""Samples on which the towers' agreement is told: their distances are 2,000 x 2,000."""


def build(request: StudentRequest) -> Student:
    """The student of `align:width=,hidden=`."""
    name, given = parse_spec("student", request.spec)
    if unknown := sorted(given.keys() - {"width", "hidden"}):
        raise BadInput(f"--student {request.spec}: unknown {', '.join(unknown)}; it takes width and hidden")
    for argument, value in given.items():
        COUNT.check(f"--student {request.spec}: {argument}", value)
    if request.init != "random":
        raise BadInput(f"--init {request.init}: {name} starts from random heads; give --init random")
    towers: dict[str, list[TargetSet]] = {"image": [], "text": []}
    for targetset in request.targetsets:
        towers[tower_of(targetset.identity["teacher"]["preprocessing"])].append(targetset)
    shapes = {"image": 1, "text": 2}
    for modality, targetsets in towers.items():
        fitting = [each for each in targetsets if len(each.row_shape) == shapes[modality]]
        if len(fitting) != 1 or len(targetsets) != 1:
            names = ", ".join(each.folder.name for each in targetsets) or "none"
            raise BadInput(
                f"--targets: {name} needs one target set of an image teacher and one of a text teacher, with a row an "
                f"image or caption each (pooled, cls); of {modality} there are {names}: name one of each, or extract it"
            )
    image, text = towers["image"][0], towers["text"][0]
    inputs = TowersInput(image.row_shape[0], text.row_shape[1], text.row_shape[0])
    width = given.get("width", 512)
    sizes = {"width": width, "hidden": given.get("hidden", 2 * width)}
    arguments = {"dims": {"image": inputs.image_dim, "text": inputs.text_dim}, **sizes}
    network = build_network("align", None, **arguments)
    return Student(network, inputs, "align", arguments, None, agreement(image, text))


def agreement(image: TargetSet, text: TargetSet) -> str:
    """How well the towers agree on the first captions of some samples of view 0, in words."""
    usable = ViewSet(Path(image.folder).parents[1]).usable
    samples = usable[spread(len(usable), COMPARED)]
    x, y = (_rows(targetset, samples) for targetset in (image, text))
    y = y[:, 0]
    chance = min(1.0, NEIGHBOURS / max(1, len(samples) - 1))
    return (
        f"the towers agree by a CKA of {linear_cka(x, y):.3f} and share {mutual_knn(x, y):.3f} of {NEIGHBOURS} nearest "
        f"neighbours (by chance {chance:.3f}), on {len(samples):,} samples"
    )


def _rows(targetset: TargetSet, samples: Int[np.ndarray, " count"]) -> Tensor:
    decoded = read_decoded(targetset, codec_of(targetset), 0, samples)
    rows: Tensor = getattr(decoded, "rows", decoded)
    return rows.float()
