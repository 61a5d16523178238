"""Rates: the peak learning rate of a student where neither recipe nor flag gives one.

AdamW's rate goes with the square root of the batch (Malladi et al. 2022, arXiv:2205.10330, the square root
scaling rule); the base rates are those of batches of 256.
"""

import math

_BATCH_SIZE = 256
_SMALL_CNN, _CNN, _TRANSFORMER = 8e-3, 2e-3, 5e-4
"""Small CNNs: what docs/acceptance.md tried. CNNs of ImageNet: what Wightman et al. 2021 (arXiv:2110.00476, table 2, A2
and A3) take for batches of 2048, by the rule above. Transformers: the thesis's."""
_BASE = {
    **dict.fromkeys(("resnet8", "resnet20", "resnet56", "convnet"), _SMALL_CNN),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), _CNN),
    **dict.fromkeys(("mobilenet_v3_small", "mobilenet_v3_large"), _CNN),
}


def peak_rate(student: str, batch_size: int) -> float:
    """AdamW's peak learning rate for the student of a spec such as resnet8:width=32; one unnamed is a transformer."""
    base = _BASE.get(student.partition(":")[0], _TRANSFORMER)
    return base * math.sqrt(batch_size / _BATCH_SIZE)
