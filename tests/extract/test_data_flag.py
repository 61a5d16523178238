"""`--data`: what it may say, what the registry imports, and real data where it is at hand."""

import os
import re
from pathlib import Path

import pytest
from test_sources import write

from extract.sources import SOURCES, open_source
from shards.errors import BadInput, UnknownName


def test_what_data_may_say(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean imagenet"):
        open_source("imagnet", "train")
    for scheme, entry in SOURCES.items():
        with pytest.raises(BadInput, match=f"write --data {scheme}"):
            open_source(scheme if entry.argument else f"{scheme}:some", "train")
    with pytest.raises(BadInput, match="--data_dir some: --data digits takes none"):
        open_source("digits", "train", "some")
    for scheme in ("folder", "parquet", "wds"):
        write(scheme, tmp_path / scheme)
        with pytest.raises(BadInput, match=re.escape(f"--data {scheme}:{tmp_path / scheme}")):
            open_source(str(tmp_path / scheme), "train")


def test_registry_imports_no_torch_and_no_datasets() -> None:
    import subprocess
    import sys

    code = "import sys, extract.sources; print({'torch', 'datasets', 'pyarrow', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.acceptance
@pytest.mark.skipif("TEACHER_SHARDS_DATA" not in os.environ, reason="TEACHER_SHARDS_DATA names no folder of real data")
def test_real_data() -> None:
    root = Path(os.environ["TEACHER_SHARDS_DATA"])
    fashion = open_source(f"parquet:{root / 'fashion_mnist'}", "train")
    assert (fashion.name, len(fashion.keys)) == ("parquet-fashion_mnist", 60_000)
    assert fashion.class_names is not None and fashion.class_names[9] == "Ankle boot"
    first = fashion.read(0)
    assert (first.key, first.label, first.image.size, first.image.mode) == ("00000", 9, (28, 28), "L")
    assert len(open_source(f"parquet:{root / 'fashion_mnist'}", "validation").keys) == 10_000
    emoji = open_source(f"wds:{root / 'emoji'}/train-{{00000..00003}}.tar", "train")
    assert (emoji.name, len(emoji.keys)) == ("wds-emoji", 3_704)
    assert emoji.class_names is not None and len(emoji.class_names) == 9
    assert emoji.keys == open_source(f"wds:{root / 'emoji'}", "train").keys
    assert emoji.read(3_703).image.size == (64, 64)
