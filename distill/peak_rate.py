"""Peak rate: the learning rate that suits a student and its batch, where neither recipe nor flag gives one."""

import math

from distill.students import student_names
from extract.networks import base_lr
from shards.command.specs import entry_of, name_of


def peak_rate(student: str, batch_size: int) -> float:
    """AdamW's peak learning rate for the student of a spec such as resnet8:width=32,

    It goes with the square root of the batch (Malladi et al. 2022, arXiv:2205.10330, the square root scaling rule);
    each network's module states its base rate, that of batches of 256.
    """
    name = name_of(student)
    if entry_of(name, student_names()) not in student_names():
        return 0.0  # no student has that name, and whoever builds it says so
    return base_lr(name) * math.sqrt(batch_size / 256)
