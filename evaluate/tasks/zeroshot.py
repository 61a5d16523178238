"""zeroshot: images are classified by the texts that name the classes: the nearest prototype is the answer.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (arXiv:2103.00020), section
3.1.4: a class's name in each template is embedded, and the mean of these rows of length 1 is its prototype. Names are
those of the data, the first where several stand between commas; CLIP's own list for ImageNet differs in some.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from evaluate import preset
from evaluate.evaluation import Evaluation
from evaluate.pairs import Embedder
from evaluate.ranks import ranks
from shards.errors import BadInput

TAKES = "pair"
FOLDER = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True, kw_only=True)
class Settings(preset.Settings):
    """How classes are put into words, and what is compared."""

    templates: str
    """A list of templates that comes with the project, by its name, or a .txt file with a {} in each line."""
    output: str
    """As retrieval's."""


def measure(evaluation: Evaluation, settings: Settings) -> dict[str, Any]:
    """`top1` and, above five classes, `top5`, without any training; `chance` has what guessing gives."""
    embedder = Embedder.of(evaluation, "--task zeroshot", settings.output)
    templates = read_templates(settings.templates)
    of_images = replace(evaluation, student=embedder.image)
    views = of_images.views(evaluation.config.split)
    names = [_in_words(name) for name in views.class_names]
    if all(re.fullmatch(r"n\d{8}", name) for name in names):
        raise BadInput(f"--data {views.name}: its classes are named {names[0]} ...; zeroshot needs names in words")
    prototypes = class_prototypes(embedder, names, templates)
    classes, correct = torch.arange(len(names)), {1: 0} if len(names) <= 5 else {1: 0, 5: 0}
    for rows, labels in of_images.outputs(views, embedder.output):
        places = ranks(F.normalize(rows, dim=1), prototypes, labels.cpu(), classes)
        correct = {k: count + int((places <= k).sum()) for k, count in correct.items()}
    return {
        **{f"top{k}": round(count / views.num_samples, 6) for k, count in correct.items()},
        "chance": {f"top{k}": round(k / len(names), 6) for k in correct},
        **views.facts(),
        "output": embedder.output,
        "num_classes": len(names),
        "num_templates": len(templates),
    }


def class_prototypes(
    embedder: Embedder, names: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "classes width"]:
    """A row of length 1 a class: the mean of its prompts' rows, normalised."""
    rows = [embedder.sentences([template.replace("{}", name) for template in templates]).mean(0) for name in names]
    return F.normalize(torch.stack(rows), dim=1)


def read_templates(name: str) -> list[str]:
    """The lines of a list of templates, comments left out; BadInput for a list that is none."""
    path = Path(name) if name.endswith(".txt") else FOLDER / f"{name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in FOLDER.glob("*.txt")))
        raise BadInput(
            f"templates {name}: no such list; known are {known}, or give a .txt file with a {{}} in each line"
        )
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    templates = [line for line in lines if line and not line.startswith("#")]
    if wrong := next((line for line in templates or [""] if "{}" not in line), None):
        raise BadInput(f"templates {name}: {wrong!r:.60} has no {{}} for the class; mend the line")
    if not templates:
        raise BadInput(f"templates {name}: the file is empty; give a {{}} in each line")
    return templates


def _in_words(name: str) -> str:
    return name.partition(",")[0].replace("_", " ").strip()
