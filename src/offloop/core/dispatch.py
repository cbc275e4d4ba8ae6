"""Bringing waiting tasks and idle workers together."""

from __future__ import annotations

from ..wire.handles import OUTBOX, Handle
from ..wire.messages import Run
from .commands import Command, Send
from .core_settings import FIRST_GRANT_NBYTES
from .costs import CostModel
from .crew import Crew, Slot
from .queue import TaskQueue
from .supply import Supply
from .tasks import TaskRecord
from .worker_state import WorkerEvent

__all__ = ["Dispatch"]


class Dispatch:
    """Gives tasks to workers."""

    def __init__(self, crew: Crew, queue: TaskQueue, supply: Supply) -> None:
        self.costs = CostModel()
        self._crew = crew
        self._queue = queue
        self._supply = supply

    def feed(self, now: float) -> list[Command]:
        """Give every worker that may work a task, as long as there are both."""
        commands: list[Command] = []
        while self._queue.wants_fresh and (slot := self._crew.maybe_idle(fresh=True)) is not None:
            commands.append(self.send(slot, self._queue.pop_for_fresh(), now))
        while self._queue.wants_any and (slot := self._crew.maybe_idle()) is not None:
            commands.append(self.send(slot, self._queue.pop(), now))
        return commands

    def enter(self, task: TaskRecord, now: float) -> list[Command]:
        """A task may be run: now where a worker is free, else in turn."""
        assert task.spec is not None
        slot = self._crew.maybe_idle(task.spec.outbox_id)
        if slot is not None:
            return [self.send(slot, task, now)]
        assert task.spec.outbox_id is None, "the host asked can_run_in before"
        task.cost_s = self.costs.estimate_s(task.spec)
        timeout = task.spec.queue_timeout_s
        self._queue.push(task, None if timeout is None else task.submitted_at + timeout)
        return []

    def done(self, task: TaskRecord, now: float) -> None:
        """A task succeeded: now it is known what such tasks cost."""
        assert task.spec is not None
        self.costs.learn(task.spec, now - task.dispatched_at)

    def send(self, slot: Slot, task: TaskRecord, now: float) -> Send:
        """Give a task to an idle worker."""
        spec = task.spec
        assert spec is not None
        assert slot.outbox_id is not None
        slot.task = task
        slot.tasks += 1
        task.dispatches += 1
        task.dispatched_at = now
        self._crew.apply(slot, WorkerEvent.DISPATCHED, None if spec.timeout_s is None else now + spec.timeout_s)
        grant: Handle | None = None  # what it was granted before and has not used is still the worker's
        if slot.standing is None:
            slot.standing = self._supply.maybe_grant_standing(slot.outbox_id, FIRST_GRANT_NBYTES)
            if slot.standing is not None:
                grant = Handle(OUTBOX, slot.standing.offset, FIRST_GRANT_NBYTES, slot.standing.generation)
        run = Run(task.task_id, spec.source, spec.stages, grant, spec.destination, spec.temporary)
        return Send(slot.index, run)
