"""Tar: equal samples give equal bytes, and a member is found by its offset where tarfile finds it."""

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import tar
from shards.errors import Damaged
from shards.tar import MAX_MEMBER_BYTES, StoredTar, listing, pack

keys = st.text(alphabet="abcXYZ019_-/%é語", min_size=1, max_size=140).filter(lambda key: key.strip("/") == key)
sizes = st.sampled_from([0, 1, 511, 512, 513]) | st.integers(0, 3000)


@st.composite
def sample_lists(draw: st.DrawFn) -> list[tuple[str, dict[str, bytes]]]:
    endings = draw(st.lists(st.sampled_from(["jpg", "json", "cls"]), min_size=1, unique=True))
    names = draw(st.lists(keys, min_size=1, max_size=5, unique=True))
    chosen = {key: draw(st.lists(st.sampled_from(endings), min_size=1, unique=True)) for key in names}
    return [(key, {ending: ending[:1].encode() * draw(sizes) for ending in chosen[key]}) for key in names]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tar") / "v00-00000.tar"


@given(sample_lists())
def test_every_member_is_where_the_record_and_tarfile_say(
    path: Path, samples: list[tuple[str, dict[str, bytes]]]
) -> None:
    data, members = pack(samples)
    path.write_bytes(data)
    stored = StoredTar(path, members)
    for row, (_, contents) in enumerate(samples):
        for ending in members:  # a sample without a label is nobody else's
            assert stored.read(row, ending) == contents.get(ending, b"")
    flat = [(f"{key}.{ending}", content) for key, contents in samples for ending, content in contents.items()]
    assert [(name, data[offset : offset + size]) for name, offset, size in listing(data)] == flat
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(header.name, tar.extractfile(header).read()) for header in tar] == flat  # type: ignore[union-attr]
    assert pack(samples) == (data, members)


def test_a_tar_holds_no_clock_no_owner_and_no_extended_header() -> None:
    data, _ = pack([("digit-0001", {"jpg": b"x" * 600, "cls": b"3"})])
    assert len(data) == 10240  # (512 + 1024) + (512 + 512) + the end, in one record of 20 blocks
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for header in tar:
            assert (header.mtime, header.uid, header.gid, header.uname, header.gname) == (0, 0, 0, "", "")
            assert header.pax_headers == {} and header.mode == 0o644


def test_a_shard_of_no_samples_is_a_tar(path: Path) -> None:
    data, members = pack([])
    path.write_bytes(data)
    assert (listing(data), members, StoredTar(path, members).endings) == ([], {}, [])


@pytest.mark.parametrize(
    "place", [(-512, 10), (0, 10241), (10240, 1), (1 << 60, 1), (512, -1), (0, MAX_MEMBER_BYTES + 1)]
)
def test_a_place_outside_the_file_is_refused(path: Path, place: tuple[int, int]) -> None:
    data, _ = pack([("a", {"jpg": b"x"})])
    path.write_bytes(data)
    with pytest.raises(Damaged, match="outside the file"):
        StoredTar(path, {"jpg": [(512, 1), place]})


def test_an_empty_file_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(Damaged, match="empty"):
        StoredTar(path, {})


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_anything_but_a_plain_file_is_refused(kind: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("a.jpg")
        header.type, header.linkname = kind, "/etc/passwd"
        tar.addfile(header)
    with pytest.raises(Damaged, match=r"a\.jpg.* no plain file"):
        listing(buffer.getvalue())


def test_what_is_no_tar_is_refused() -> None:
    with pytest.raises(Damaged, match="no tar"):
        listing(b"\x00" * 100 + b"not a tar" * 1000)


def test_more_tars_than_may_be_open_are_read_by_threads_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "most_open", lambda: 8)
    stored = []
    for number in range(30):
        data, members = pack([(f"sample-{row}", {"jpg": f"{number} {row}".encode()}) for row in range(5)])
        (tmp_path / f"{number}.tar").write_bytes(data)
        stored.append(StoredTar(tmp_path / f"{number}.tar", members))

    def read(place: tuple[int, int]) -> bytes:
        return stored[place[0]].read(place[1], "jpg")

    def num_open() -> int:
        links = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
        return sum(path.parent == tmp_path.resolve() for path in links)

    places = [(number * 7 % 30, row) for row in range(5) for number in range(30)] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, places)) == [f"{number} {row}".encode() for number, row in places]
    assert num_open() == 8
    stored.clear()
    assert num_open() == 0


def test_a_tar_that_was_replaced_or_cut_after_the_check_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v00-00000.tar"
    data, members = pack([("a", {"jpg": b"x" * 600})])
    path.write_bytes(data)
    stored = StoredTar(path, members)
    (tmp_path / "other.tar").write_bytes(data)
    (tmp_path / "other.tar").replace(path)
    with pytest.raises(Damaged, match="was replaced"):
        stored.read(0, "jpg")
    stored = StoredTar(path, members)
    assert stored.read(0, "jpg") == b"x" * 600
    os.truncate(path, 700)
    with pytest.raises(Damaged, match="was cut off"):
        stored.read(0, "jpg")
