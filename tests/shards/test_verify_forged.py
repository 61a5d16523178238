"""`python -m shards verify` on forged caches: hashes that fit and contents that do not."""

from pathlib import Path

import caches
from test_verify import OBJECT, flip, reseal_shard, verify

from shards.documents import read_commit
from shards.tar import pack


def test_a_plan_whose_keys_are_not_its_identity_s(cache: Path) -> None:
    viewset = caches.viewset_of(cache)
    caches.reseal(viewset / "plan.json", lambda plan: plan["keys"].reverse())
    caches.reseal_records(viewset, "viewset.json", "plan.json")
    found = verify(cache)
    assert found.status == 2 and "its keys are not those of its identity" in found.err


def test_a_path_outside_the_cache(cache: Path) -> None:
    outside = {"../../../../etc/passwd": {"size": 1, "sha256": "0" * 64}}
    caches.reseal(caches.viewset_of(cache) / "viewset.json", lambda manifest: manifest["files"].update(outside))
    found = verify(cache)
    assert found.status == 2 and "leads outside the cache" in found.err


def test_a_forged_tar_whose_headers_name_other_keys(cache: Path) -> None:
    viewset = caches.viewset_of(cache)
    path = viewset / "views/v00-00001.tar"
    path.write_bytes(path.read_bytes().replace(b"digit-0020.jpg", b"digit-0021.jpg", 1))
    reseal_shard(viewset, "viewset.json", "views/v00-00001.tar")
    found = verify(cache)
    assert found.status == 2 and "its tar headers are not in order" in found.err  # the header's own checksum

    record = read_commit(viewset, 0, 1)
    assert record is not None
    keys = [f"digit-{row:04d}" for row in range(len(record.members["jpg"]))]
    packed, members = pack((key, {"jpg": b"1", "json": b"{}", "cls": b"0"}) for key in keys)
    path.write_bytes(packed)
    caches.reseal(viewset / "commits/v00-00001.json", lambda commit: commit.update(members=members))
    reseal_shard(viewset, "viewset.json", "views/v00-00001.tar")
    found = verify(cache)
    assert found.status == 2 and "members are not those of the plan and the commit record" in found.err


def test_forged_member_offsets(cache: Path) -> None:
    viewset = caches.viewset_of(cache)

    def move(commit: dict) -> None:
        commit["members"]["cls"].reverse()

    caches.reseal(viewset / "commits/v00-00001.json", move)
    caches.reseal_records(viewset, "viewset.json", "commits/v00-00001.json")
    found = verify(cache)
    assert found.status == 2 and "members are not those of the plan and the commit record" in found.err


def test_a_forged_inner_chunk_fails_its_own_checksum(cache: Path) -> None:
    targetset = caches.targetset_of(cache)
    flip(targetset / OBJECT)
    reseal_shard(targetset, "targetset.json", OBJECT)
    found = verify(cache)
    assert found.status == 2 and "inner chunk 0 fails its crc32c" in found.err
    flip(targetset / OBJECT)
    flip(targetset / OBJECT, -10)
    reseal_shard(targetset, "targetset.json", OBJECT)
    found = verify(cache)
    assert found.status == 2 and "the index fails its checksum" in found.err
