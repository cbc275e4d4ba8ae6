"""Chooses the node of a task by what the nodes report: free bytes of admission, tasks that wait and run. Pure.

A node may have as many tasks of this client as it can run at once, and as many again, so that the next sources arrive while the
present tasks run. The client counts what it has sent since a node's last report.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

__all__ = ["MAX_IN_FLIGHT_FACTOR", "NodeLoad", "choose"]

MAX_IN_FLIGHT_FACTOR = 2  # tasks of one client on a node, for each task that it can run at once


class NodeLoad(msgspec.Struct):
    """Load of one node."""

    address: str
    concurrency: int  # maximum number of running tasks
    free_bytes: int  # bytes that admission has left, by the last report
    running: int = 0  # tasks of all clients, by the last report
    waiting: int = 0
    own: int = 0  # tasks of this client that have no outcome yet
    own_reported: int = 0  # those at the time of the last report
    unreported_bytes: int = 0  # bytes of the sources of the tasks since then

    @property
    def has_room(self) -> bool:
        """Whether this client may send it another task."""
        return self.own < MAX_IN_FLIGHT_FACTOR * self.concurrency

    @property
    def fullness(self) -> float:
        """Tasks for each place, with those that the last report cannot know."""
        tasks = max(self.running + self.waiting + self.own - self.own_reported, self.own)
        return tasks / self.concurrency

    def report(self, running: int, waiting: int, free_bytes: int, concurrency: int) -> None:
        """Take a report of the node."""
        self.running, self.waiting, self.free_bytes, self.concurrency = running, waiting, free_bytes, max(concurrency, 1)
        self.own_reported = self.own
        self.unreported_bytes = 0

    def begin(self, nbytes: int) -> None:
        """A task was placed here. `nbytes`: length of its sources, as far as it is known."""
        self.own += 1
        self.unreported_bytes += nbytes

    def end(self) -> None:
        """A task has its outcome."""
        self.own -= 1


def choose(loads: Iterable[NodeLoad], nbytes: int, avoided: frozenset[str] = frozenset()) -> NodeLoad | None:
    """The node for a task: of those with room, one whose free bytes hold the sources, then the least full one, then the one
    with the most free bytes. None: no node has room.

    Args:
        loads: the nodes that can take tasks.
        nbytes: length of the task's sources, as far as it is known.
        avoided: addresses of nodes that get the task only if there is no other one.
    """
    candidates = [load for load in loads if load.has_room]
    if not candidates:
        return None

    def rank(load: NodeLoad) -> tuple[bool, bool, float, int]:
        free = load.free_bytes - load.unreported_bytes
        return (load.address in avoided, free < nbytes, load.fullness, -free)

    return min(candidates, key=rank)
