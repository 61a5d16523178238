"""`python -m benchmarks.slow_folder FOLDER MOUNTPOINT LATENCY_MS`: a folder through FUSE, each read after a latency.

Read-only; it ends when it is unmounted (fusermount3 -u MOUNTPOINT). Needs mfusepy and fuse3.
"""

import os
import sys
import time
from typing import Any

STATUS = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_atime", "st_mtime", "st_ctime")


def main() -> None:
    """Serves until it is unmounted."""
    import mfusepy

    root, mountpoint, latency_s = os.path.realpath(sys.argv[1]), sys.argv[2], float(sys.argv[3]) / 1000

    class SlowFolder(mfusepy.Operations):  # type: ignore[misc]
        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            try:
                status = os.lstat(root + path)
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno) from None
            return {name: getattr(status, name) for name in STATUS}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(root + path)]  # noqa: PTH208

        def open(self, path: str, flags: int) -> int:
            return os.open(root + path, os.O_RDONLY)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            time.sleep(latency_s)
            return os.pread(fh, size, offset)

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

    mfusepy.FUSE(SlowFolder(), mountpoint, foreground=True, nothreads=False, ro=True)


if __name__ == "__main__":
    main()
