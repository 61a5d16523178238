"""Views that are rendered: each sample's image once, in the tars of view 0, and an array of what each view shows of it.

View 0's commit record of a shard is that of its images too, so that a growth, which adds objects of the array alone,
leaves them as they are.
"""

import io
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
from jaxtyping import Int64
from PIL import Image

from shards.arrays import StoredArrays
from shards.checked import CheckedFiles, CommittedFiles
from shards.documents import Plan, read_commit
from shards.errors import RESTORE, BadInput, Damaged
from shards.identity import canonical_json
from shards.rows import Checksums, checksums_of, row_checksums
from shards.storage import tars
from shards.storage.base import Fetched, ViewStorage
from shards.storage.originals import digest, original
from shards.tar import Members
from shards.views.base import Row, ViewCodec
from shards.views.rendered import ARRAY, COLUMNS, Pixels, RenderedCodec, as_row, of_row, pixels_of
from shards.zarr_json import check_array
from shards.zarrs import ArraySpec, group_bytes, metadata_bytes, object_rows, pack, without_padding

_OF_A_VIEW = ("view", "crop", "flip")
"""Facts that do not lie beside the image, which all views of a sample share."""


def spec_of(plan: Plan) -> ArraySpec:
    """The array of the views."""
    return without_padding(ArraySpec(ARRAY, "uint16", (COLUMNS,), len(plan.keys), plan.shard_size))


class _Last(threading.local):
    """What a thread read last."""

    def __init__(self) -> None:
        self.wanted: tuple[int, ...] = ()
        self.fetched: Fetched | None = None
        """The images of the samples `wanted`, whose last number says whether their labels are among them."""
        self.sample = -1
        self.decoded: Pixels | None = None
        """The image of `sample`."""


class Storage(ViewStorage):
    """`views/v00-00000.tar`: the images of a shard; `crops/c/3/0/0`: what its view 3 shows of them.

    A thread keeps the images' files that it fetched last, and the image that it decoded last: where a batch has several
    views of a sample, the loader reads these one after the other, and the image is read and decoded once.
    """

    rows_a_task = 1
    """A sample's views alone, so that one decoded image is all that a thread keeps."""
    needs_first = True
    """The images are there."""

    def __init__(self, folder: Path, plan: Plan, codec: ViewCodec, num_views: int, checked: CheckedFiles) -> None:
        assert isinstance(codec, RenderedCodec)
        self.folder, self.plan, self.codec, self.num_views, self.checked = folder, plan, codec, num_views, checked
        self.images = tars.Storage(folder, plan, codec, 1, checked)
        self.images.of_any_view = checked.next_uses.of_any_view = True
        self.spec = spec_of(plan)
        self.arrays = StoredArrays(folder, {ARRAY: self.spec}, num_views, checked)
        self._last = _Last()

    def metadata(self) -> dict[str, bytes]:
        """A zarr group and its array."""
        identity = json.loads(canonical_json(self.plan.identity))  # in one order, also where it was read back
        array = metadata_bytes(self.spec.metadata(self.num_views))
        return {"zarr.json": group_bytes({"identity": identity}), f"{ARRAY}/zarr.json": array}

    def check(self) -> None:
        """The zarr.json is that of the array; a killed growth may have announced more views."""
        check_array(self.folder, self.spec, self.num_views)

    def kept_image(self, view: int, shard: int) -> Callable[[int], tuple[bytes, int | None]] | None:
        """What gives a sample's stored image and its label, for a further view; None where the shard has none yet."""
        if view == 0 or not self.codec.keeps_sources or read_commit(self.folder, 0, shard) is None:
            return None
        stored = tars.Storage(self.folder, self.plan, self.codec, 1, CommittedFiles(self.folder))

        def read(sample: int) -> tuple[bytes, int | None]:
            label = stored.facts(0, sample).get("label")
            return stored.content(0, sample, self.codec.endings[0]), label

        return read

    def store(self, row: Row, out: Row, facts: dict[str, Any]) -> dict[str, bytes]:
        """The image's own file, which `row` holds, or nothing of an original; beside it what the view shows of it."""
        held, box, flip = row["pixels"], tuple(facts["crop"]), bool(facts["flip"])
        members = {ending: held.tobytes() for ending in self.codec.endings}
        pixels = pixels_of(held.tobytes()) if members else held
        checksum = self.codec.render(pixels, box, flip, out["pixels"])
        shared = {name: value for name, value in facts.items() if name not in _OF_A_VIEW}
        if "label" in facts:
            members["cls"] = str(facts["label"]).encode()
        members["json"] = json.dumps(shared, sort_keys=True).encode()
        return members | {ARRAY: as_row(box, flip, checksum).tobytes()}

    def pack(
        self, view: int, shard: int, fields: Row, contents: Sequence[dict[str, bytes] | None]
    ) -> tuple[dict[str, bytes | bytearray], Members | None]:
        """An object of the array, a skipped row zero; of view 0 the tar too.

        BadInput where the images of a further view are not those that view 0 stored.
        """
        nothing = bytes(self.spec.row_bytes)
        drawn = b"".join(nothing if content is None else content[ARRAY] for content in contents)
        rows = np.frombuffer(drawn, np.uint16).reshape(-1, COLUMNS)
        files: dict[str, bytes | bytearray] = {self.spec.shard_path(view, shard): pack(self.spec, rows)}
        if view:
            self._check_same(shard, contents)
            return files, None
        members = [content and {name: each for name, each in content.items() if name != ARRAY} for content in contents]
        tar, places = self.images.pack(view, shard, fields, members)
        return files | tar, places

    def _check_same(self, shard: int, contents: Sequence[dict[str, bytes] | None]) -> None:
        record, ending = read_commit(self.folder, 0, shard), next(iter(self.codec.endings), "")
        sums = row_checksums(self.folder, record.checksums if record else None, ending, len(contents))
        for row, content, checksum in zip(self.plan.rows(shard), contents, () if sums is None else sums, strict=False):
            if content is not None and crc32c.crc32c(content[ending]) != int(checksum):
                raise BadInput(
                    f"{self.folder}: the image of {self.plan.keys[row]} is not encoded to the bytes of view 0, which "
                    "another machine with another Pillow or simplejpeg made meanwhile; run the command again"
                )

    def checksums(
        self, view: int, shard: int, files: Mapping[str, bytes | bytearray], members: Members | None
    ) -> Checksums:
        """Of each row of the array; of view 0 each member too."""
        packed = files[self.spec.shard_path(view, shard)]
        drawn = {ARRAY: checksums_of(object_rows(self.spec, packed, self.spec.num_rows(shard)))}
        return drawn if members is None else drawn | self.images.checksums(view, shard, files, members)

    def fetch(
        self, view: int, samples: Sequence[int], labels: bool = False, requests: Executor | None = None
    ) -> Fetched | None:
        """The images, whichever view is read, and the view's rows of the array under its name."""
        wanted = (*samples, labels)
        if self._last.wanted != wanted:
            self._last.fetched, self._last.wanted = self.images.fetch(0, samples, labels, requests), wanted
        fetched = self._last.fetched
        if fetched is None:
            return None
        rows = np.empty((len(samples), self.spec.row_bytes), np.uint8)
        self.arrays.gather(view, np.asarray(samples, np.int64), {ARRAY: rows}, requests)
        return fetched | {(sample, ARRAY): row.tobytes() for sample, row in zip(samples, rows, strict=True)}

    def read(self, view: int, samples: Sequence[int], out: Row, epoch: int = 0, fetched: Fetched | None = None) -> None:
        """Render the views of `samples`; Damaged, with what differs, where one is not what extract made."""
        fetched = self.fetch(view, samples) if fetched is None else fetched
        for position, sample in enumerate(samples):
            row = self._row(view, sample) if fetched is None else np.frombuffer(fetched[sample, ARRAY], np.uint16)
            self._render(view, sample, row, out["pixels"][position], fetched)

    def _row(self, view: int, sample: int) -> np.ndarray:
        row: np.ndarray = self.arrays.read(view, np.array([sample]))[ARRAY][0]
        return row

    def _pixels(self, sample: int, fetched: Fetched | None) -> Pixels:
        """The image's, as it is stored, or where none is the original's."""
        last = self._last
        if last.decoded is None or last.sample != sample:
            last.decoded = None  # a photo may be large: not two of them at a time
            last.sample, last.decoded = sample, self._decoded(sample, fetched)
        return last.decoded

    def _decoded(self, sample: int, fetched: Fetched | None) -> Pixels:
        if not self.codec.keeps_sources:
            return original(self.folder, self.plan, sample)
        try:
            return pixels_of(self.images.content(0, sample, self.codec.endings[0], fetched))
        except Damaged as error:
            raise Damaged(f"{self.folder}: the image of {self.plan.keys[sample]}: {error}; {RESTORE}") from None

    def _render(self, view: int, sample: int, row: np.ndarray, out: np.ndarray, fetched: Fetched | None) -> None:
        (left, top, width, height), flip, expected = of_row(row)
        where = f"{self.folder}: view {view} of {self.plan.keys[sample]}"
        pixels = self._pixels(sample, fetched)
        if not (width > 0 and left + width <= pixels.shape[1] and height > 0 and top + height <= pixels.shape[0]):
            size, crop = f"{pixels.shape[1]} x {pixels.shape[0]} pixels", f"{width} x {height} at {left}, {top}"
            raise Damaged(f"{where}: its image is of another size, {size}, than its crop of {crop}; {RESTORE}")
        found = self.codec.render(pixels, (left, top, width, height), flip, out)
        if found != expected:
            raise Damaged(
                f"{where} is not rendered to the pixels that the teacher saw (crc32c {found:08x}, expected "
                f"{expected:08x}): {self._blame(sample, pixels)}, or extract again"
            )

    def _blame(self, sample: int, pixels: Pixels) -> str:
        """What differs from what the teacher saw (size, bytes or decoder), and what to do."""
        remedy = "use the simplejpeg and Pillow that extract used (constraints.txt)"
        if self.codec.keeps_sources:
            return f"the image's bytes and size are as they were, so its decoder or resize differs: {remedy}"
        before, now = self.images.facts(0, sample).get("size"), [pixels.shape[1], pixels.shape[0]]
        if isinstance(before, list) and before != now:
            sizes = (" x ".join(map(str, size)) for size in (now, before))
            return "the original is of another size now, {} pixels, and was {}: restore it".format(*sizes)
        shard, row = divmod(sample, self.plan.shard_size)
        recorded = (self.checked.commit(0, shard).digests or [])[row : row + 1]
        if not any(recorded):
            return f"the original is another image of that name now, or its decoder or resize differs: {remedy}"
        if recorded != [digest(self.folder, self.plan, sample)]:
            return "the original is another image of that name and size now, its bytes differ: restore it"
        return f"the original's bytes and size are as they were, so its decoder or resize differs: {remedy}"

    def labels(self, view: int, samples: Sequence[int], fetched: Fetched | None = None) -> Int64[np.ndarray, " count"]:
        """The .cls members beside the images."""
        return self.images.labels(0, samples, fetched)

    def facts(self, view: int, sample: int) -> dict[str, Any]:
        """What lies beside the image, and the view's crop and flip."""
        return self._facts(view, sample, self._row(view, sample), None)

    def _facts(self, view: int, sample: int, row: np.ndarray, fetched: Fetched | None) -> dict[str, Any]:
        box, flip, _ = of_row(row)
        return self.images.facts(0, sample, fetched) | {"view": view, "crop": list(box), "flip": flip}

    def members(self, view: int, samples: Sequence[int], requests: Executor | None = None) -> list[dict[str, bytes]]:
        """The view's pixels as a PNG, which loses nothing; .json and .cls."""
        fetched, members = self.images.fetch_all(0, samples, requests), list[dict[str, bytes]]()
        rows = self.arrays.read(view, np.asarray(samples, np.int64))[ARRAY]
        pixels = np.empty((self.codec.image_size, self.codec.image_size, 3), np.uint8)
        for sample, row in zip(samples, rows, strict=True):
            self._render(view, sample, row, pixels, fetched)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            facts = json.dumps(self._facts(view, sample, row, fetched), sort_keys=True)
            members.append({"png": buffer.getvalue(), "json": facts.encode()})
            if self.plan.class_names is not None:
                members[-1]["cls"] = self.images.content(0, sample, "cls", fetched)
        return members
