"""`python -m benchmarks [NAME ...] [FLAGS]`: all benchmarks or some, each in a process of its own."""

import subprocess
import sys

from benchmarks import NAMES
from shards.command.run import run_command
from shards.errors import UnknownName


def main(arguments: list[str] | None = None) -> None:
    """Names come first; flags go to each benchmark."""
    given = sys.argv[1:] if arguments is None else arguments
    if given in (["-h"], ["--help"]):
        print(f"usage: python -m benchmarks [NAME ...] [FLAGS]\nnames: {', '.join(NAMES)} (all without any)")
        print("flags: those of each, as python -m benchmarks.NAME --help lists them")
        return
    first_flag = next((place for place, word in enumerate(given) if word.startswith("-")), len(given))
    names, flags = given[:first_flag] or NAMES, given[first_flag:]
    for name in names:
        if name not in NAMES:
            raise UnknownName("benchmark", name, NAMES)
    status = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *flags]).returncode for name in names]
    sys.exit(max(status))


if __name__ == "__main__":
    run_command(main, "benchmarks")
