"""A server of ranges that costs as little as it can: GET of a file's bytes, as S3 answers, in a process of its own."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REQUEST = re.compile(rb"GET /bucket/(\S+) HTTP")
_RANGE = re.compile(rb"range: bytes=(\d+)-(\d+)", re.IGNORECASE)
_DATE = b"Thu, 01 Jan 2026 00:00:00 GMT"


@contextmanager
def serving(folder: Path, delay_s: float) -> Iterator[str]:
    """The endpoint of a server of the files in `folder`, each of whose answers takes `delay_s` more, in any number."""
    command = [sys.executable, "-m", "benchmarks.range_server", str(folder), str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def _serve(folder: Path, delay_s: float) -> None:
    files: dict[bytes, tuple[int, int]] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                name, part = _REQUEST.match(head), _RANGE.search(head)
                assert name and part, head
                if name[1] not in files:
                    descriptor = os.open(folder / name[1].decode(), os.O_RDONLY)
                    files[name[1]] = descriptor, os.fstat(descriptor).st_size
                descriptor, size = files[name[1]]
                first, last = int(part[1]), min(int(part[2]), size - 1)
                await asyncio.sleep(delay_s)
                writer.write(
                    b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n"
                    b'ETag: "1"\r\nLast-Modified: %s\r\n\r\n' % (last - first + 1, first, last, size, _DATE)
                )
                writer.write(os.pread(descriptor, last - first + 1, first))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
