"""What a policy made of a trace: when each task began and ended."""

from __future__ import annotations

from math import nan

import msgspec

__all__ = ["Schedule"]


class Schedule(msgspec.Struct):
    """Times by a task's number in its trace."""

    policy: str
    began: list[float]
    ended: list[float]  # not a number: it was refused
    budget_bytes: int | None = None  # that what runs may take together; None: any amount
    beyond: set[int] = set()  # tasks that ran on a worker more than there are: they took nobody's place
    stopped: dict[int, int] = {}  # tasks that took more than they were allowed: so many bytes, when that was noticed

    @classmethod
    def empty(cls, policy: str, tasks: int, budget_bytes: int | None = None) -> Schedule:
        return cls(policy, [nan] * tasks, [nan] * tasks, budget_bytes)
