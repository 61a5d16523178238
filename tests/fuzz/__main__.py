"""`python -m tests.fuzz [READER ...] --inputs 100000`: fuzz every reader of foreign files, or those named.

Each fault is printed with the input that makes it again: `python -m tests.fuzz READER --again 'SPOILING'`, which raises
it. --seed draws other inputs; --seconds ends a reader's campaign early.
"""

import argparse
import ast
import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).parents[1])]

_MEMORY = "/dev/shm"
"""Where files are in memory, on a system that has it."""


def main() -> int:
    """The number of faults, at most 1."""
    from fuzz.campaign import Campaign, Example, campaign_of
    from fuzz.readers import READERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(READERS)} (default: all)")
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--again")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TEACHER_SHARDS_LOCAL_CACHE"] = str(folder / "home")
    if given.again:
        example = Example(given.readers[0], folder / "again")
        example.spoil(ast.literal_eval(given.again))
        example.reader.read(example.folder)
        return 0
    found: list[Campaign] = []
    for number, name in enumerate(given.readers or READERS):
        campaign = campaign_of(name, given.inputs, folder / f"{number}", given.seed, given.seconds)
        found.append(campaign)
        print(campaign.summary(), flush=True)
        for fault, spoiling in campaign.faults.items():
            print(f"  {fault}\n    {spoiling!r}", flush=True)
    return int(any(campaign.faults for campaign in found))


if __name__ == "__main__":
    sys.exit(main())
