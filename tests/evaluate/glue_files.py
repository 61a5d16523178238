"""GLUE in the hub's layout, as small parquet files: each label follows from the words, so that it can be learned."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Value

from extract.sources.glue import TASKS

COLOURS = ["red", "green", "blue", "black", "white", "brown", "pink", "grey"]
THINGS = ["house", "river", "stone", "cloud", "table", "horse", "light", "paper"]
MOST_SCORE = 5


def sentences(generator: np.random.Generator, kind: int, num_kinds: int) -> tuple[str, str]:
    """A pair whose second sentence tells the kind by one word, as both do by the share of words that they have."""
    words = generator.permutation(THINGS)[:4].tolist()
    marks = COLOURS[kind * len(COLOURS) // num_kinds : (kind + 1) * len(COLOURS) // num_kinds]
    return " ".join(words), " ".join(generator.permutation([*words[:2], str(generator.choice(marks))]).tolist())


def write_task(root: Path, task: str, split: str, num_rows: int, seed: int = 0, label: int | None = None) -> Path:
    """ROOT/TASK/SPLIT-00000-of-00001.parquet; `label` is every row's, where it is given."""
    generator, known = np.random.default_rng([seed, len(split), num_rows]), TASKS[task]
    num_kinds = len(known.class_names) if known.class_names else MOST_SCORE + 1
    kinds = generator.permutation(np.arange(num_rows) % num_kinds).tolist()
    pairs = [sentences(generator, kind, num_kinds) for kind in kinds]
    texts = list(zip(*pairs, strict=True))[-len(known.texts) :]
    feature = ClassLabel(names=list(known.class_names)) if known.class_names else Value("float32")
    features = Features({**{name: Value("string") for name in known.texts}, "label": feature, "idx": Value("int32")})
    columns = [*map(list, texts), kinds if label is None else [label] * num_rows, list(range(num_rows))]
    table = pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, features.arrow_schema, strict=True)],
        schema=features.arrow_schema,
    )
    file = root / task / f"{split}-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def write_glue(root: Path, num_train: int = 96, num_validation: int = 48) -> Path:
    """All nine tasks, with their validation splits and a test split without labels."""
    for task in TASKS:
        for split in ("validation_matched", "validation_mismatched") if task == "mnli" else ("validation",):
            write_task(root, task, split, num_validation, seed=1)
        write_task(root, task, "train", num_train)
        write_task(root, task, "test", 8, label=-1)
    return root
