"""Nobody asks torch for "the" GPU: its memory, name or pending work is that of the device that a command was given."""

import ast
from pathlib import Path

import shards

ROOT = Path(shards.__file__).parent.parent
PACKAGES = ("shards", "extract", "distill", "evaluate", "benchmarks")
OF_A_DEVICE = {
    "current_stream",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "reset_peak_memory_stats",
    "set_per_process_memory_fraction",
    "synchronize",
}
"""Functions of torch.cuda that take a device, and without one speak of the first, or of whichever is current."""


def asked_of_none(source: str) -> list[str]:
    """The calls of such a function that name no device, or name it by a number; and events of no stream."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = {f"torch.cuda.{name}" for name in OF_A_DEVICE}
    asking = [call for call in calls if ast.unparse(call.func) in names or ast.unparse(call.func).endswith(".record")]
    given = [[*call.args, *(keyword.value for keyword in call.keywords)] for call in asking]
    named = [any(not isinstance(value, ast.Constant) for value in values[-1:]) for values in given]
    return [ast.unparse(call) for call, is_named in zip(asking, named, strict=True) if not is_named]


def test_every_question_names_its_device() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): asked_of_none(path.read_text()) for path in files}
    assert {path: calls for path, calls in found.items() if calls} == {}
    wrong = ["torch.cuda.synchronize()", "torch.cuda.get_device_properties(0)", "self.copied.record()"]
    right = ["torch.cuda.synchronize(device)", "torch.cuda.get_device_name(device=device)", "event.record(stream)"]
    assert asked_of_none("\n".join([*wrong, *right])) == wrong
