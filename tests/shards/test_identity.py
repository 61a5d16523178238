"""Identity and sealed documents: one byte string a document, and no altered document is read."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.identity import canonical_json, differences, identity_hash, sha256_of, sha256_of_file

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
documents = st.dictionaries(st.text().filter(lambda name: name not in ("sha256", "kind", "format")), values, max_size=4)


@given(documents)
def test_the_hash_covers_the_content_and_not_the_order_of_its_fields(document: dict[str, Any]) -> None:
    backwards = dict(reversed(document.items()))
    assert canonical_json(backwards) == canonical_json(document)
    assert identity_hash(backwards) == identity_hash(document)
    assert identity_hash({**document, "another": 1}) != identity_hash(document)


def test_canonical_json_is_this_very_string() -> None:
    # a golden value: every identity, and so every folder's name, hangs on it
    document = {"b": [1, 2.5, None, True], "a": {"é": "x"}}
    assert canonical_json(document) == b'{"a":{"\\u00e9":"x"},"b":[1,2.5,null,true]}'
    assert identity_hash(document)[:16] == sha256_of(b'{"a":{"\\u00e9":"x"},"b":[1,2.5,null,true]}')[:16]
    assert sha256_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


def test_nan_has_no_identity() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"seed": float("nan")})


@given(documents, documents)
def test_two_identities_differ_just_when_a_field_is_named(held: dict[str, Any], asked: dict[str, Any]) -> None:
    same = json.loads(canonical_json(held)) == json.loads(canonical_json(asked))
    assert (differences(held, asked) == []) == same


def test_a_difference_names_the_field_and_both_values() -> None:
    held = {"seed": 0, "augment": {"kind": "crop", "flip": 0.5}, "keys": "k"}
    asked = {"seed": 1, "augment": {"kind": "crop", "flip": 0.0}, "keys": "k", "new": 3}
    found = differences(held, asked)
    assert found[0] == "augment.flip: the cache has 0.5, asked for 0.0"
    assert found[1].startswith("new: ") and found[1].endswith("asked for 3")
    assert found[2:] == ["seed: the cache has 0, asked for 1"]


def test_hashes_come_last_and_short() -> None:
    """Two weights files that begin alike are told whole: their first digits would say that they are equal."""
    held = {"keys": "a" * 64, "size": 224, "weights": "c" * 64}
    asked = {"keys": "b" * 64, "size": 12, "weights": "c" * 63 + "d"}
    size, keys, weights = differences(held, asked)
    assert size == "size: the cache has 224, asked for 12"
    assert keys == "keys: the cache has aaaaaaaa..., asked for bbbbbbbb..."
    assert weights == f'weights: the cache has "{held["weights"]}", asked for "{asked["weights"]}"'
    (gone,) = differences({"keys": "a" * 64}, {})
    assert gone == "keys: the cache has aaaaaaaa..., asked for no such field"


def test_a_long_value_is_shortened_in_a_difference() -> None:
    (found,) = differences({"keys": "a" * 1000}, {"keys": "b"})
    assert len(found) < 150


def test_a_file_is_hashed_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000  # larger than one read
    (tmp_path / "file").write_bytes(data)
    assert sha256_of_file(tmp_path / "file") == sha256_of(data)
