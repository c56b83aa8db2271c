"""How work is dealt to groups of even cost, and which part of it a task of a job array takes. Pure arithmetic."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence

import numpy as np

from features.errors import OptionError

_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")


def parse_shard(text: str | None) -> tuple[int, int]:
    """Return the task that a shard such as "3/8" names, counted from 0, and the number of tasks.

    Args:
        text: None means the only task, (0, 1).

    Raises:
        OptionError: the text is not TASK/TASKS, or there is no such task.

    >>> parse_shard("3/8")
    (3, 8)
    """
    if text is None:
        return 0, 1
    match = _SHARD.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]):
        raise OptionError("--shard", f"{text!r} is not TASK/TASKS with a task from 0 to TASKS - 1, such as 0/8.")
    return int(match[1]), int(match[2])


def deal(costs: Sequence[int], num_groups: int) -> list[np.ndarray]:
    """Deal items to groups so that the groups' costs are even: the costliest first, each to the cheapest group so far.

    Among items of equal cost, and among groups of equal cost, the first one goes first, so the result is the same on
    every call. The costliest group is at most 4/3 of the best possible one: R. L. Graham, "Bounds on multiprocessing
    timing anomalies", SIAM J. Appl. Math. 1969.

    Returns:
        Per group the indices of its items, ascending, int64.

    >>> deal([5, 4, 3, 3], 2)
    [array([0, 3]), array([1, 2])]
    """
    groups: list[list[int]] = [[] for _ in range(num_groups)]
    totals = [(0, group) for group in range(num_groups)]  # a heap
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        total, group = heapq.heappop(totals)
        groups[group].append(index)
        heapq.heappush(totals, (total + costs[index], group))
    return [np.array(sorted(group), dtype=np.int64) for group in groups]
