"""`shards` is our package also where a data folder has its name, as it does after `--out shards/`."""

import subprocess
import sys
from pathlib import Path


def test_a_data_folder_called_shards_does_not_hide_the_package(tmp_path):
    (tmp_path / "shards" / "digits-train-00000000").mkdir(parents=True)
    code = "import shards.errors, pathlib; print(pathlib.Path(shards.errors.__file__).parent)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tmp_path not in Path(done.stdout.strip()).parents
