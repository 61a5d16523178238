"""Views without pixels, of which a killed run committed the second and not the first: the images come again."""

from pathlib import Path

from caches import contents, extract, targetset_of, viewset_of


def test_a_further_view_is_made_again_where_the_images_are_not_committed(teacher: Path, tmp_path: Path) -> None:
    """As two processes leave it that make a view each."""
    view = ("--view", "crop:size=16,store=source,source_size=16", "--views", "2", "--codec", "float32")
    flags = ("--teacher", f"run:{teacher}", "--data", "digits", "--limit", "8", "--shard_size", "8", *view)
    extract("--out", tmp_path, *flags, "--devices", "cpu")
    whole, folder = contents(tmp_path), viewset_of(tmp_path)
    targets = targetset_of(tmp_path)
    for path in (folder / "viewset.json", folder / "commits/v00-00000.json", targets / "targetset.json"):
        path.unlink()
    for view_number in range(2):
        (targets / f"commits/v0{view_number}-00000.json").unlink()
    extract("--out", tmp_path, *flags, "--devices", "cpu")
    assert contents(tmp_path) == whole
