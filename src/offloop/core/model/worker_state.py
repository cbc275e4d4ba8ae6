"""States of a worker slot, as a table.

Rows are states, keys are events, an absent key is an illegal event. `WorkerStateMachine.apply` looks everything up before it
changes anything; an illegal event leaves the state as it was and raises with the recent transitions. The diagram in
`docs/design.md` is drawn from this table, and every (state, event) pair is tested.

Each state has one meaning:

- STARTING, RESTARTING: a process is being started, for the first time or after a death (RESTARTING includes the back-off).
- LOADING: the worker imports and opens its plugins, with a time limit of its own.
- IDLE: the worker waits for a task.
- BUSY: the worker has a task.
- TIMED_OUT: the task was told to stop (deadline, caller's cancellation or closing), and the grace period runs.
- FAILED: the worker is dead or being killed. The state ends when `waitid` reports its exit, or with the kill timeout.
- RETIRING: the worker was told to exit. If it is replaced, the replacement is in another slot.
- TERMINATING: the worker was told to exit, did not, and is being killed. The slot is not filled again.
- GONE: the slot has no process and gets none.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from types import MappingProxyType
from typing import Final

__all__ = ["TABLE", "IllegalTransition", "WorkerEvent", "WorkerState", "WorkerStateMachine"]


class WorkerState(Enum):
    __hash__ = object.__hash__  # members are singletons; Enum's own hash runs in Python, a dozen times per task

    STARTING = "starting"
    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    TIMED_OUT = "timed-out"
    FAILED = "failed"
    RESTARTING = "restarting"
    RETIRING = "retiring"
    TERMINATING = "terminating"
    GONE = "gone"


class WorkerEvent(Enum):
    __hash__ = object.__hash__

    LOADING_BEGUN = "LoadingBegun"  # the worker began to load its plugins
    LOAD_EXPIRED = "LoadExpired"  # the worker did not load its plugins in time
    READY = "Ready"  # the worker can run tasks
    DISPATCHED = "Dispatched"  # the worker was sent a task
    TASK_FINISHED = "TaskFinished"  # the worker answered for its task
    NEXT_BEGUN = "NextBegun"  # the worker answered for its task, and has begun the next one that was sent to it
    DEADLINE_EXPIRED = "DeadlineExpired"  # the task ran too long
    CANCEL_REQUESTED = "CancelRequested"  # the caller cancelled the task, or the pool is closing
    GRACE_EXPIRED = "GraceExpired"  # the worker was told to stop its task or to exit, and did not
    START_EXPIRED = "StartExpired"  # the worker did not report `Loading` in time
    PROTOCOL_VIOLATED = "ProtocolViolated"  # the worker broke the protocol
    DISCONNECTED = "Disconnected"  # end of file on its channel, or its exit if that is known first
    EXITED = "Exited"  # `waitid` reported its exit: its memory can be reused
    ABANDONED = "Abandoned"  # the worker was killed and did not exit in time: the slot is given up
    RETIREMENT_REQUESTED = "RetirementRequested"  # the slot is to be emptied


_S, _E = WorkerState, WorkerEvent

_ON_FAILURE = {_E.PROTOCOL_VIOLATED: _S.FAILED, _E.DISCONNECTED: _S.FAILED}
_ON_START = {
    _E.LOADING_BEGUN: _S.LOADING,
    _E.START_EXPIRED: _S.FAILED,
    _E.RETIREMENT_REQUESTED: _S.RETIRING,
    **_ON_FAILURE,
}

TABLE: Final = MappingProxyType(
    {
        _S.STARTING: _ON_START,
        _S.LOADING: {
            _E.READY: _S.IDLE,
            _E.LOAD_EXPIRED: _S.FAILED,
            _E.RETIREMENT_REQUESTED: _S.RETIRING,
            **_ON_FAILURE,
        },
        _S.IDLE: {_E.DISPATCHED: _S.BUSY, _E.RETIREMENT_REQUESTED: _S.RETIRING, **_ON_FAILURE},
        _S.BUSY: {
            _E.TASK_FINISHED: _S.IDLE,
            _E.NEXT_BEGUN: _S.BUSY,
            _E.DEADLINE_EXPIRED: _S.TIMED_OUT,
            _E.CANCEL_REQUESTED: _S.TIMED_OUT,
            **_ON_FAILURE,
        },
        _S.TIMED_OUT: {
            _E.TASK_FINISHED: _S.IDLE,
            _E.NEXT_BEGUN: _S.BUSY,
            _E.GRACE_EXPIRED: _S.FAILED,
            **_ON_FAILURE,
        },
        _S.FAILED: {_E.EXITED: _S.RESTARTING, _E.ABANDONED: _S.RESTARTING},
        _S.RESTARTING: _ON_START,
        _S.RETIRING: {
            _E.LOADING_BEGUN: _S.RETIRING,
            _E.READY: _S.RETIRING,  # possible because it was starting when it was told to exit
            _E.DISCONNECTED: _S.RETIRING,
            _E.PROTOCOL_VIOLATED: _S.RETIRING,
            _E.GRACE_EXPIRED: _S.TERMINATING,
            _E.EXITED: _S.GONE,
        },
        _S.TERMINATING: {
            _E.LOADING_BEGUN: _S.TERMINATING,
            _E.READY: _S.TERMINATING,
            _E.DISCONNECTED: _S.TERMINATING,
            _E.PROTOCOL_VIOLATED: _S.TERMINATING,
            _E.EXITED: _S.GONE,
            _E.ABANDONED: _S.GONE,
        },
        _S.GONE: {},
    }
)

_RECENT_TRANSITIONS = 16  # number of events that are kept for error texts and crash reports


class IllegalTransition(Exception):
    """An event that the table has no entry for: a defect of the caller, not of the worker."""

    def __init__(self, state: WorkerState, event: WorkerEvent, recent_transitions: tuple[str, ...]) -> None:
        self.state = state
        self.event = event
        self.recent_transitions = recent_transitions
        super().__init__(
            f"{event.value} is illegal in state {state.value}; recent transitions: {', '.join(recent_transitions) or '(none)'}"
        )


class WorkerStateMachine:
    """State of one worker slot, and its last events."""

    __slots__ = ("_recent_transitions", "_row", "state")

    def __init__(self) -> None:
        self.state = WorkerState.STARTING
        self._row = TABLE[self.state]
        self._recent_transitions: deque[WorkerEvent] = deque(maxlen=_RECENT_TRANSITIONS)

    @property
    def recent_transitions(self) -> tuple[str, ...]:
        """The last events, oldest first."""
        return tuple(event.value for event in self._recent_transitions)

    @property
    def last(self) -> WorkerEvent | None:
        """The last event; None: none yet."""
        return self._recent_transitions[-1] if self._recent_transitions else None

    def can(self, event: WorkerEvent) -> bool:
        """Whether the table has an entry for this event in the present state."""
        return event in self._row

    def apply(self, event: WorkerEvent) -> WorkerState:
        """Follow the table and return the new state.

        Raises:
            IllegalTransition: the table has no entry for the event; nothing has changed.
        """
        successor = self._row.get(event)
        if successor is None:
            raise IllegalTransition(self.state, event, self.recent_transitions)
        self.state = successor
        self._row = TABLE[successor]
        self._recent_transitions.append(event)
        return successor
