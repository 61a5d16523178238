"""Children: what a command says of processes that it started and that did not end themselves."""

import signal
from collections.abc import Iterable

_FROM_OUTSIDE = {-signal.SIGKILL: "SIGKILL", -signal.SIGTERM: "SIGTERM"}


def is_from_outside(status: int) -> bool:
    """Whether a process of this exit status was ended by another one, or by the system."""
    return status in _FROM_OUTSIDE


def ended_from_outside(statuses: Iterable[int], num_processes: int, kept: str) -> str:
    """The line for the first of `statuses` that `is_from_outside`; `kept` is what nobody loses by it."""
    how = next(_FROM_OUTSIDE[status] for status in statuses if is_from_outside(status))
    return (
        f"one of the {num_processes} processes was ended by {how}, as a system does that has no memory left "
        f"(--max_memory takes less); {kept} is kept, the same command resumes"
    )
