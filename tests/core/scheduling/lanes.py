"""Queues with the lanes of some worker groups."""

from __future__ import annotations

from collections.abc import Mapping

from offloop.core.model.task_record import TaskRecord
from offloop.core.scheduling.lane import Lane
from offloop.core.scheduling.task_queue import TaskQueue
from offloop.core.workers.group_slots import GroupSlots

__all__ = ["queue_for"]


def queue_for(*groups: GroupSlots, weights: Mapping[str, float] | None = None) -> TaskQueue:
    """Return an empty queue with a lane for each group; by default for the default group, without workers."""
    waiting: dict[int, TaskRecord] = {}
    return TaskQueue([Lane(group, None, weights, waiting) for group in groups or (GroupSlots(1),)], waiting)
