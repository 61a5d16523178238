"""`python -m tests.reliability model|soak|power|endurance ...`: the checks of reliability at any length."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.reliability", description=__doc__)
    checks = parser.add_subparsers(dest="check", required=True)
    model = checks.add_parser("model", help="the store against a plain dict")
    model.add_argument("--examples", type=int, default=1000)
    model.add_argument("--steps", type=int, default=500)
    soak = checks.add_parser("soak", help="random rows of every codec and storage, and flipped bits")
    soak.add_argument("--rows", type=int, default=10_000_000)
    power = checks.add_parser("power", help="losses of power at all moments of a command")
    power.add_argument("names", nargs="*", help="extract, shared, grow, remove, killed, pull, push ... (default: all)")
    power.add_argument("--states", type=int, default=1000, help="distinct states of the disk, a command")
    power.add_argument("--seed", type=int, default=0)
    power.add_argument("--workers", type=int, default=1)
    endurance = checks.add_parser("endurance", help="everything, over and over, under kills and on a full disk")
    endurance.add_argument("--minutes", type=float, default=120)
    endurance.add_argument("--seed", type=int, default=0)
    endurance.add_argument("--place", type=Path, help="a new folder to keep, with all that was printed (default: none)")
    endurance.add_argument("only", nargs="*", help="pixels, crops, texts (default: all)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TEACHER_SHARDS_LOCAL_CACHE"] = str(Path(folder, "home"))
        if given.check == "model":
            from store_model import play

            play(given.examples, given.steps)
            print(f"{given.examples:,} sequences of {given.steps:,} steps")
        elif given.check == "soak":
            from soak import tell

            tell(Path(folder), given.rows)
        elif given.check == "endurance":
            from endurance import tell

            (place := given.place or Path(folder, "endurance")).mkdir(parents=True)
            tell(place.resolve(), given.minutes, given.seed, given.only)
        else:
            from power_scenarios import tell

            tell(given.names, given.states, given.seed, given.workers)


if __name__ == "__main__":
    main()
