"""Worker slot: place for one worker process, and the state of that process."""

from __future__ import annotations

from math import inf

from .blocks import Block
from .task_record import TaskRecord
from .worker_state import WorkerState, WorkerStateMachine

__all__ = ["WorkerSlot"]


class WorkerSlot:
    """Place for one worker process after another. All fields except the first three describe the present process."""

    def __init__(self, index: int, group: str, state_machine: WorkerStateMachine) -> None:
        """A slot without a process."""
        self.index = index  # unique in the pool
        self.group = group  # name of its worker group
        self.state_machine = state_machine
        self.outbox_id: int | None = None  # None: there is no process
        self.pid: int | None = None  # None: not known yet
        self.plugins: tuple[str, ...] = ()  # names of the plugins that the process loads, in this order
        self.task: TaskRecord | None = None  # the task that it runs
        self.receiving: TaskRecord | None = None  # the task that it gets as soon as its sources are in the inbox
        self.sent: list[TaskRecord] = []  # tasks that it has behind that one, in the order in which it will run them
        self.runs = 0  # number of `Run` messages that were sent to it
        self.sent_when_idle = 0  # number of the last `Run` that it got without a task; those after it were sent behind another
        self.withdrawn_to = 0  # number of the last `Run` that was withdrawn; 0: none, or the worker has answered a later one
        self.is_withdrawing = False  # whether `RunsWithdrawn` is to come
        self.queues_runs = False  # whether it takes a `Run` while it has a task
        self.ready_since: float | None = None  # time of its `Ready`; None: not ready yet
        # time at which the present state has lasted too long, or an empty slot is started; None: never
        self.timer: float | None = None
        self.preallocated_block: Block | None = None  # result memory for the next task, with a PREALLOCATED lease
        self.kill_reason: str | None = None  # reason why the supervisor kills it, if that is its own fault
        self.tasks = 0  # number of tasks that were sent to it
        self.tenant = ""  # tenant of its last task; "": it has none
        self.recycling: str | None = None  # reason why it is to be replaced
        self.max_tasks = inf  # number of tasks after which it is replaced, jitter included
        self.failures = 0  # number of consecutive unexpected exceptions
        self.max_bytes = inf  # private memory between two tasks above which it is replaced
        self.expires_at: float | None = None  # time at which it is replaced because of its age; None: never
        self.idle_bytes = 0  # last known private memory without a task
        self.inbox_bytes = 0  # memory that its own inbox keeps without a task
        self.excess_bytes = 0  # memory that its own inbox keeps beyond that, for about a second after a large source

    @property
    def state(self) -> WorkerState:
        return self.state_machine.state

    @property
    def assigned(self) -> TaskRecord | None:
        """The task that it runs, or that it gets next."""
        return self.receiving if self.task is None else self.task

    @property
    def unused(self) -> bool:
        """Whether the worker has had no task yet."""
        return not self.tasks

    @property
    def spent(self) -> bool:
        """Whether the worker has been sent its maximum number of tasks."""
        return self.tasks >= self.max_tasks

    def take_back(self, tasks: int) -> None:
        """The worker will not begin so many of the tasks that were sent to it. A spent worker stays spent."""
        if self.spent:
            self.max_tasks -= tasks
        self.tasks -= tasks

    def clear(self) -> None:
        """Reset the fields that describe the process, after its end."""
        self.outbox_id = self.pid = self.task = self.ready_since = self.timer = self.preallocated_block = None
        self.kill_reason = self.recycling = self.expires_at = None
        self.tenant = ""
        self.tasks, self.max_tasks, self.max_bytes = 0, inf, inf
        self.runs = self.sent_when_idle = self.withdrawn_to = 0
        self.is_withdrawing = self.queues_runs = False
        self.failures = self.inbox_bytes = self.excess_bytes = 0
