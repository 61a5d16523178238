"""`python -m tests.advisories FOLDER`: which known advisories concern a pin of constraints.txt, without a network.

FOLDER is a copy of https://github.com/pypa/advisory-database, with a YAML file in OSV's format for each. Printed is
what docs/dependencies.md does not answer; the exit status is 1 where there is any, 2 where FOLDER is no such copy.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
ANSWERS = ROOT / "docs/dependencies.md"
_BOUNDS = {"introduced": Version.__ge__, "fixed": Version.__ge__, "last_affected": Version.__gt__}
"""What a version is to the bound of each event from which on the event holds."""


def pins(text: str) -> dict[str, Version]:
    """Each package of constraints.txt, by its normalised name."""
    return {_normalised(name): Version(version) for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", text)}


def answered(text: str) -> dict[str, str]:
    """The advisories that a table of the page `text` answers, each with the package whose row that is."""
    rows = re.findall(r"(?m)^\| ([\w-]+) \| (PYSEC-[^|]+) \| [^|]+ \|$", text)
    return {advisory: name for name, advisories in rows for advisory in re.findall(r"PYSEC-\d+-\d+", advisories)}


def concerns(advisory: dict[str, Any], name: str, version: Version) -> bool:
    """Whether `version` of the package `name` is one that an advisory in OSV's format says is affected."""
    if advisory.get("withdrawn"):
        return False
    return any(
        version in map(_version, affected.get("versions", ()))
        or any(_in_range(each["events"], version) for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM")
        for affected in advisory["affected"]
        if _normalised(affected["package"]["name"]) == name
    )


def _in_range(events: list[dict[str, str]], version: Version) -> bool:
    """The last event at or below `version` decides; an event that names no bound is none."""
    named = [(_version(bound), kind) for event in events for kind, bound in event.items() if kind in _BOUNDS]
    bounds = sorted((bound, kind) for bound, kind in named if bound is not None)
    passed = [kind for bound, kind in bounds if _BOUNDS[kind](version, bound)]
    return bool(passed) and passed[-1] == "introduced"


def _version(text: str) -> Version | None:
    """None for what is no version: the database has `2.5.0-NA`."""
    try:
        return Version(str(text))
    except InvalidVersion:
        return None


def findings(folder: Path, pinned: dict[str, Version]) -> Iterator[tuple[str, str]]:
    """The name of each pin that an advisory under `folder` concerns, and what is to be said of it."""
    for path in sorted(folder.glob("vulns/*/PYSEC-*.y*ml")):
        name = _normalised(path.parent.name)
        if name in pinned and not path.name.startswith("PYSEC-0000"):  # drafts, which no package has
            advisory = yaml.safe_load(path.read_text())
            if concerns(advisory, name, pinned[name]):
                names = ", ".join([advisory["id"], *advisory.get("aliases", ())])
                yield advisory["id"], f"{name} {pinned[name]}: {names}: {_first_line(advisory)}"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _first_line(advisory: dict[str, Any]) -> str:
    return " ".join(str(advisory.get("summary") or advisory.get("details") or "").split())[:160]


def main(folder: Path) -> int:
    """1 where an advisory concerns a pin and has no answer."""
    if not (folder / "vulns").is_dir():
        print(f"{folder}: no copy of the advisory database (it has no folder vulns)", file=sys.stderr)
        return 2
    pinned, answers = pins((ROOT / "constraints.txt").read_text()), answered(ANSWERS.read_text())
    found = list(findings(folder, pinned))
    open_ones = [line for number, line in found if number not in answers]
    print("\n".join(open_ones or [f"{len(pinned)} pins, {len(found)} advisories, each answered in {ANSWERS.name}"]))
    return bool(open_ones)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) if len(sys.argv) == 2 else __doc__)
