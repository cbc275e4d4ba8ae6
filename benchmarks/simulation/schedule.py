"""A schedule: when each task of a trace began and ended under one policy."""

from __future__ import annotations

from math import nan

import msgspec

__all__ = ["Schedule"]


class Schedule(msgspec.Struct):
    """Times in seconds, by the number of the task in its trace."""

    policy: str
    began: list[float]
    ended: list[float]  # NaN: the task was refused
    budget_bytes: int | None = None  # memory that the running tasks may need together; None: no limit
    beyond: set[int] = set()  # tasks that ran beyond the number of workers, so that no other task had to wait for them
    stopped: dict[int, int] = {}  # task -> bytes at which it was stopped, because it exceeded its memory limit

    @classmethod
    def empty(cls, policy: str, tasks: int, budget_bytes: int | None = None) -> Schedule:
        return cls(policy, [nan] * tasks, [nan] * tasks, budget_bytes)
