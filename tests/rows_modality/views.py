"""How a row lies in a tar: 64 bytes of little-endian float32."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from shards.errors import Damaged
from shards.views.base import MemberCodec

WIDTH = 16
CHECKS = {"noise": lambda value: type(value) is float and value >= 0}


@dataclass(frozen=True)
class RowCodec(MemberCodec):
    augmented: bool
    modality: ClassVar[str] = "row"
    fields: ClassVar[dict[str, tuple[str, tuple[int, ...]]]] = {"row": ("float32", (WIDTH,))}
    endings: ClassVar[tuple[str, ...]] = ("f32",)

    def encode(self, row: dict[str, np.ndarray]) -> dict[str, bytes]:
        return {"f32": row["row"].astype("<f4").tobytes()}

    def decode(self, members: Any, out: dict[str, np.ndarray], choice: int = 0) -> None:
        if len(members["f32"]) != WIDTH * 4:
            raise Damaged("a stored row has another length")
        out["row"][:] = np.frombuffer(members["f32"], "<f4")

    def picture(self, row: dict[str, np.ndarray]) -> Image.Image:
        return Image.fromarray(np.uint8(row["row"].reshape(4, 4) % 1 * 255)).convert("RGB")

    def caption(self, row: dict[str, np.ndarray], facts: dict[str, Any], folder: Path) -> list[str]:
        return [f"noise {facts['noise']:g}"]


def codec_of(identity: dict[str, Any]) -> RowCodec:
    return RowCodec(identity["noise"] > 0)
