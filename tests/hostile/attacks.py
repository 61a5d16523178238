"""Attacks, by name: on a cache that a store serves or a folder holds, and those that only a folder can hold."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from spoilers import (
    FILES,
    Repository,
    another_identity,
    declared_size,
    empty_pipe,
    holding,
    huge_jpeg,
    image,
    listed_size,
    many_files,
    many_headers,
    many_members,
    many_names,
    member,
    name_in_listing,
    name_in_manifest,
    png,
    replaced,
    swap,
    with_field,
)

OUTSIDE = (
    *("../outside", "../../outside", "/tmp/outside", "views/../../../outside", "..", "/", "a\\..\\b", "a\0b"),
    *("a\nb", "a\x1b[2J\x1b]0;owned\x07", "<img src=x onerror=alert(1)>", "x" * 300, "\ud800", "~/outside", "."),
)
HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>"
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m\r"

Attack = Callable[[Repository], Any]
ATTACKS: dict[str, Attack] = {}
"""On a cache that is served by a store, or lies in a folder."""
LINKS: dict[str, Attack] = {}
"""On a folder alone: what no store can hold."""

for number, name in enumerate(OUTSIDE):
    ATTACKS[f"name {number} in the listing"] = partial(name_in_listing, name)
    ATTACKS[f"name {number} in a manifest"] = partial(name_in_manifest, name, False)
    ATTACKS[f"name {number} in a target set's manifest"] = partial(name_in_manifest, name, True)
for kind in ("plan", "manifest", "tar", "commit", "targets", "object", "metadata"):
    ATTACKS[f"{kind} of 1 PB in the listing"] = partial(listed_size, kind)
for kind in ("plan", "tar", "commit", "object"):
    for size in (1 << 40, 0, -1, 10**30, "1", 1.5, None):
        ATTACKS[f"{kind} of {size} bytes in its record"] = partial(declared_size, kind, size)
for shape in ([10**12], [2**31, 2**31], [0], ["10"], [[10]], [1] * 40):
    ATTACKS[f"rows of {shape}"] = partial(with_field, "targets", ("row_shape",), shape)
    ATTACKS[f"arrays of {shape}"] = partial(with_field, "targets", ("arrays",), {"values": ["float32", shape]})
for names, value in {
    ("num_samples",): 10**12,
    ("num_views",): 10**6,
    ("shard_size",): 1,
    ("codec",): "pq:96",
    ("identity", "viewset"): "0" * 64,
    ("layouts",): {"values": [1 << 40, 1 << 40]},
    ("keep_tokens",): 1 << 40,
}.items():
    ATTACKS[f"{'.'.join(names)} {value} of a target set"] = partial(with_field, "targets", names, value)
for names, value in {
    ("shard_size",): 1 << 40,
    ("keys",): ["../../outside"] * 40,
    ("keys_file",): {"size": 1 << 40, "sha256": "0" * 64},
    ("request",): {"data": "folder:/", "split": "train", "data_dir": "/"},
    ("identity", "image_size"): 1 << 30,
    ("identity", "store"): {"kind": "none"},
    ("identity", "augment"): {"kind": "crop", "interpolation": "x"},
    ("identity", "modality"): "pair",
}.items():
    ATTACKS[f"{'.'.join(names)} {str(value)[:30]} of a plan"] = partial(another_identity, names, value)
ATTACKS["an image as large as a petabyte"] = partial(
    another_identity, ("identity", "store"), {"kind": "source", "source_size": 1 << 40}
)
for names, value in {
    ("shape",): [2, 1 << 40, 10],
    ("codecs",): [{"name": "gzip", "configuration": {"level": 9}}],
    ("fill_value",): "x",
    ("data_type",): "object",
    ("chunk_grid", "configuration", "chunk_shape"): [1, 1 << 40, 10],
    ("storage_transformers",): [{"name": "x"}],
}.items():
    ATTACKS[f"{'.'.join(names)} of a zarr.json"] = partial(with_field, "metadata", names, value)
for members in ({"jpg": [[0, 1 << 40]] * 16}, {"jpg": [[1 << 40, 1]] * 16}, {"../x": [[0, 1]] * 16}, {HTML: []}):
    ATTACKS[f"members {str(members)[:30]}"] = partial(with_field, "commit", ("members",), members)
for label, content in {
    "nested": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "a long number": b'{"a": ' + b"1" * 100_000 + b"}",
    "compressed": zlib.compress(bytes(1 << 20), 9, 31),
    "nothing": b"",
    "half of a pair": b'{"\\ud800": "\\udc00\\ud800"}',
    "NaN": b'{"a": NaN, "sha256": "x"}',
}.items():
    for kind in ("plan", "manifest", "commit", "metadata", "object", "tar"):
        ATTACKS[f"{kind} is {label}"] = partial(holding, kind, content)
ATTACKS |= {
    "a JPEG of 65,500 pixels a side": huge_jpeg,
    "a PNG of 60,000 pixels a side": partial(image, png(60_000, 60_000)),
    "a PNG with a text that unfolds": partial(
        image, png(16, 16, (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20), 9)[:200]))
    ),
    "a label that is a word": partial(member, "cls", b"x"),
    "facts that are no JSON": partial(member, "json", b"{"),
    "facts that are nested": partial(member, "json", b"[" * 10_000),
    "facts that are a number": partial(member, "json", b"1"),
    "20,000 files in a manifest": partial(many_files, 20_000),
    "a million names in the listing": partial(many_names, 1_000_000),
    "a million members in a commit record": partial(many_members, 1_000_000),
    "a million members in a tar": partial(many_headers, 1_000_000),
    "YAML that runs": partial(holding, "flags", b"teacher: !!python/object/apply:os.system ['touch /tmp/outside']\n"),
    "YAML of aliases": partial(
        holding,
        "flags",
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(12)),
    ),
    "YAML that is nested": partial(holding, "flags", b"views: " + b"[" * 20_000),
    "YAML with a day that is none": partial(holding, "flags", b"views: 2024-99-99\n"),
}
for kind, name in {"plan": "class_names", "manifest": "skipped", "targets": "teacher", "commit": "skipped"}.items():
    evil: Any = HTML + ESCAPES if name == "teacher" else [HTML + ESCAPES] * 10
    ATTACKS[f"HTML and escapes in {kind}.{name}"] = partial(with_field, kind, (name,), evil)
for names in (("target",), ("codec_error",), ("devices",), ("identity", "teacher", "name"), ("identity", "precision")):
    shown: Any = {"codec_error": {HTML + ESCAPES: 1.0}, "devices": [HTML + ESCAPES]}.get(names[0], HTML + ESCAPES)
    ATTACKS[f"HTML and escapes in a target set's {'.'.join(names)}"] = partial(with_field, "targets", names, shown)
for names in (("identity", "source"), ("identity", "split"), ("identity", "revision"), ("request", "data")):
    ATTACKS[f"HTML and escapes in {'.'.join(names)}"] = partial(another_identity, names, HTML + ESCAPES)
for kind, other in {
    "tar": "views/v00-00000.tar",
    "commit": "commits/v01-00001.json",
    "object": "targets/*/values/c/1/1/0",
    "plan": "viewset.json",
    "metadata": "plan.json",
}.items():
    for resealed in (False, True) if kind in ("tar", "commit", "metadata") else (False,):
        ATTACKS[f"{kind} swapped{' and recorded' * resealed}"] = partial(swap, kind, other, resealed)
for kind in FILES:
    for how in ("a link", "a link to itself", "a link to a device", "a hard link", "a pipe", "a socket", "a folder"):
        LINKS[f"{kind} is {how}"] = partial(replaced, kind, how)
LINKS["a pipe of no byte"] = empty_pipe
