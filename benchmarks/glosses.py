"""Glosses: WordNet's definitions as a labelled corpus: what each defines is of one of 45 classes, such as animals.

The class is the lexicographer file that a synset is from (Fellbaum 1998, "WordNet", chapter 1; lexnames(5WN)): 26 kinds
of nouns, 15 of verbs, adverbs and three kinds of adjectives. Debian's package wordnet-base is a folder of its data.

    python -m benchmarks.glosses [--wordnet /usr/share/wordnet] --out FOLDER
"""

import argparse
import json
import random
from pathlib import Path

from shards.command.run import run_command
from shards.commit import write_atomically
from shards.errors import BadInput

PARTS = ("noun", "verb", "adj", "adv")
HELD_OUT = 10
"""One definition in so many is for validation, and one for test."""


def main(arguments: list[str] | None = None) -> None:
    """FOLDER's train.jsonl, validation.jsonl and test.jsonl hold all definitions and classes, in a fixed random order.

    Examples of use are left out, and of equal definitions all but the first.
    """
    flags = argparse.ArgumentParser("benchmarks.glosses")
    flags.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="the folder of data.noun")
    flags.add_argument("--out", type=Path, required=True, help="a folder for the three files")
    options = flags.parse_args(arguments)
    classes: dict[str, str] = {}
    for part in PARTS:
        for text, label in definitions(options.wordnet / f"data.{part}"):
            classes.setdefault(text, f"{part}.{label}")
    texts = list(classes)
    random.Random(0).shuffle(texts)
    options.out.mkdir(parents=True, exist_ok=True)
    cut = len(texts) // HELD_OUT
    end = len(texts) - cut
    for split, some in {"validation": texts[:cut], "train": texts[cut:end], "test": texts[end:]}.items():
        lines = [json.dumps({"text": text, "label": classes[text]}) + "\n" for text in some]
        write_atomically(options.out / f"{split}.jsonl", "".join(lines).encode())


def definitions(path: Path) -> list[tuple[str, str]]:
    """Each synset's definition and the two digits of its class; BadInput where `path` is not there."""
    if not path.is_file():
        raise BadInput(
            f"--wordnet: {path} is not there; apt-get install wordnet-base, or give the folder of WordNet 3.0"
        )
    rows = [line.partition(" | ") for line in path.read_text("ascii").splitlines() if not line.startswith("  ")]
    return [(gloss.partition('; "')[0].strip(), fields.split()[1]) for fields, _, gloss in rows]


if __name__ == "__main__":
    run_command(main, "benchmarks.glosses")
