"""What extract writes last is true of what lies there: a file that changed meanwhile is refused, never hashed anew."""

import caches
import pytest

FLAGS = ("--data", "digits", "--limit", "20", "--image_size", "16", "--devices", "cpu")


@pytest.mark.parametrize("name", ["extract.yaml", "zarr.json", "commits/v00-00000.json", "values/c/0/0/0"])
@pytest.mark.parametrize("deleted", [False, True], ids=["changed", "deleted"])
def test_a_file_that_changed_is_not_blessed_by_the_next_extract(name: str, deleted: bool, tmp_path) -> None:
    teacher = caches.write_teacher(tmp_path / "teacher")
    again = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *FLAGS)
    caches.extract(*again)
    folder, before = caches.targetset_of(tmp_path / "cache"), caches.contents(tmp_path / "cache")
    if deleted:
        (folder / name).unlink()
    else:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
    outcome = caches.command("extract", *again)
    if outcome.status:
        outcome.refuses(name.partition("/")[0])
    elif caches.contents(tmp_path / "cache") != before:  # what was deleted may have been made anew, byte for byte
        assert caches.command("shards", "verify", tmp_path / "cache").status, "the damage was blessed"
