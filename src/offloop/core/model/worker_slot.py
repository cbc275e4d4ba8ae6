"""One place for a worker, and what is known of the worker that is in it."""

from __future__ import annotations

from math import inf

import msgspec

from .blocks import Block
from .task import TaskRecord
from .worker_state import WorkerState, WorkerStateMachine

__all__ = ["WorkerSlot"]


class WorkerSlot(msgspec.Struct, eq=False):
    """One place for a worker; processes come and go in it. All but the first three are of the present process."""

    index: int
    state_machine: WorkerStateMachine
    helper: bool = False  # for small tasks beside large ones
    outbox_id: int | None = None  # None: there is no process
    pid: int | None = None  # once it is known
    plugins: tuple[str, ...] = ()  # names of the plugins that the process loads, in this order
    task: TaskRecord | None = None
    ready_since: float | None = None  # None: it is not ready yet
    timer: float | None = None  # when the present state has lasted too long, or an empty slot is to be started
    preallocated_block: Block | None = (
        None  # result memory that the worker may begin any task with; held under the outbox's number
    )
    kill_reason: str | None = None  # why we kill it, where its own fault
    tasks: int = 0  # that it was given
    recycling: str | None = None  # why it is to be replaced
    max_tasks: float = inf  # that it may be given, exactly
    failures: int = 0  # unexpected exceptions in a row
    max_bytes: float = inf  # private memory that it may have between two tasks
    expires_at: float | None = None  # when it is old
    idle_bytes: int = 0  # private memory that it has when it has no task, as far as is known

    @property
    def state(self) -> WorkerState:
        return self.state_machine.state

    @property
    def unused(self) -> bool:
        """Whether it has not had a task yet."""
        return not self.tasks

    @property
    def spent(self) -> bool:
        """Whether it has been given as many tasks as it may."""
        return self.tasks >= self.max_tasks

    def clear(self) -> None:
        """The process is dead; what was its own is forgotten."""
        self.outbox_id = self.pid = self.task = self.ready_since = self.timer = self.preallocated_block = None
        self.kill_reason = self.recycling = self.expires_at = None
        self.tasks, self.max_tasks, self.max_bytes = 0, inf, inf
        self.failures = 0
