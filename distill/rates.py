"""Rates: the peak learning rate of a student where neither recipe nor flag gives one.

AdamW's rate goes with the square root of the batch (Malladi et al. 2022, arXiv:2205.10330, the square root
scaling rule); each network's module states its base rate, that of batches of 256.
"""

import math

from distill.students import student_names
from extract.networks import base_lr

_BATCH_SIZE = 256


def peak_rate(student: str, batch_size: int) -> float:
    """AdamW's peak learning rate for the student of a spec such as resnet8:width=32."""
    name = student.partition(":")[0]
    if name not in student_names():
        return 0.0  # no student has that name, and whoever builds it says so
    return base_lr(name) * math.sqrt(batch_size / _BATCH_SIZE)
