"""Pace: how often the turmoil of an endurance run does what to the commands and to their disk."""

from dataclasses import dataclass


@dataclass
class Pace:
    """How often something happens, in seconds of a core that the commands had since the last one: on a busy machine too
    each of them comes as far as on a quiet one."""

    kills: tuple[float, float] = (0.2, 4)
    rests: tuple[float, float] = (4, 12)
    """Between some kills, so that what starts slowly is met at its work too."""
    fills: tuple[float, float] = (2, 16)
    full: tuple[float, float] = (0.3, 5)
    """How long a disk stays full, by the clock."""
    idle: float = 15
    """A command that waits is killed after so many seconds by the clock."""
