"""Ahead: work that threads do for the next jobs while what they made of the first ones is taken, in the jobs' order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")


def ahead(pool: Executor, work: Callable[[Job], Done], jobs: Iterable[Job], num_ahead: int) -> Iterator[Done]:
    """What `work` makes of each job, in their order; no more than `num_ahead` are under way or wait to be taken."""
    waiting: deque[Future[Done]] = deque()
    for job in jobs:
        waiting.append(pool.submit(work, job))
        if len(waiting) > num_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
