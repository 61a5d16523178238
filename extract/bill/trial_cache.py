"""Trial cache: what a plan reads of a cache, under second names or fetched; the cache itself stays as it is."""

import contextlib
import os
import shutil
from pathlib import Path

from extract.plan_views import ViewSetJob
from extract.staging import fetch_documents, in_set
from shards.documents import read_commit
from shards.layout import inside, place_of
from shards.mirror import write
from shards.stores import is_url, open_store


class TrialCache:
    """The documents and commit records of the cache `out`, a folder or a URL, in the folder `root`."""

    def __init__(self, out: str, root: Path) -> None:
        self.out, self.root = out, root
        root.mkdir(parents=True)
        if is_url(out):
            store = open_store(out)
            fetch_documents(store, store.sizes(), root)
            return
        for path in Path(out).rglob("*"):
            name = path.relative_to(out).as_posix()
            is_shard = place_of(in_set(name)) is not None and "/commits/" not in name
            # what is hidden is a lock, half a file, or what a run cuts samples from
            if not is_shard and not any(part.startswith(".") for part in path.relative_to(out).parts):
                _second(path, root / name)

    def bring_first(self, views: ViewSetJob) -> float:
        """The first shard of the `views` is here too, if it is stored; the bytes of one of its views, or 0."""
        record = read_commit(views.folder, 0, 0)
        if record is None:
            return 0.0
        for relative in record.files:
            name = f"{views.folder.name}/{relative}"
            if is_url(self.out):
                write(inside(self.root, name), open_store(self.out).get(name))
            else:
                _second(inside(Path(self.out), name), self.root / name)
        return sum(each.size for each in record.files.values()) / max(1, len(views.plan.rows(0)))


def _second(path: Path, name: Path) -> None:
    """The file has a second name, or is copied where the disk gives it none; a file that is gone by now is left out."""
    with contextlib.suppress(FileNotFoundError):
        if not path.is_file():
            return
        name.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, name, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(path, name, follow_symlinks=False)
