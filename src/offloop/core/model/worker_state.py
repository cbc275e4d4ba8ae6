"""The life of a worker, as a table.

Rows are states, keys are events, an absent key is an illegal event. `WorkerLife.apply` looks everything up before it changes
anything; an illegal event leaves the life as it was and raises with the worker's recent story. The diagram in `docs/design.md`
is drawn from this table, and every (state, event) pair is tested.

One state, one meaning:

- STARTING, RESTARTING: a process is being started, for the first time or after a death (RESTARTING includes the back-off).
- LOADING: the worker imports and opens its plugins, with a time limit of its own.
- IDLE, BUSY: it waits for a task, it has one.
- TIMED_OUT: its task was told to stop (deadline or caller's cancellation) and its grace runs.
- FAILED: it is dead or being killed; waitid's word leads on, or the end of the time that is waited for it.
- RETIRING: asked to leave; if it is to be replaced, its replacement is in another slot.
- TERMINATING: it was asked to leave, did not, and is being killed; the slot is not filled again.
- GONE: no process, and there will be none.
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

    LOADING_BEGUN = "LoadingBegun"  # it loads its plugins
    LOAD_EXPIRED = "LoadExpired"  # it did not load them in time
    READY = "Ready"  # it said that it is configured
    DISPATCHED = "Dispatched"  # it was sent a task
    TASK_FINISHED = "TaskFinished"  # it answered for its task
    DEADLINE_EXPIRED = "DeadlineExpired"  # its task ran too long
    CANCEL_REQUESTED = "CancelRequested"  # nobody wants its task any more
    GRACE_EXPIRED = "GraceExpired"  # it was told to stop, or to leave, and did not
    START_EXPIRED = "StartExpired"  # it was not ready in time
    PROTOCOL_VIOLATED = "ProtocolViolated"  # it broke the protocol
    DISCONNECTED = "Disconnected"  # the first news of its end: EOF, or waitid
    EXITED = "Exited"  # waitid's word: it is dead, its memory is nobody's
    ABANDONED = "Abandoned"  # it was killed, and waitid has not said in time that it is dead: the slot is given up
    RETIREMENT_REQUESTED = "RetirementRequested"  # the slot is to be empty


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
            _E.DEADLINE_EXPIRED: _S.TIMED_OUT,
            _E.CANCEL_REQUESTED: _S.TIMED_OUT,
            **_ON_FAILURE,
        },
        _S.TIMED_OUT: {_E.TASK_FINISHED: _S.IDLE, _E.GRACE_EXPIRED: _S.FAILED, **_ON_FAILURE},
        _S.FAILED: {_E.EXITED: _S.RESTARTING, _E.ABANDONED: _S.RESTARTING},
        _S.RESTARTING: _ON_START,
        _S.RETIRING: {
            _E.LOADING_BEGUN: _S.RETIRING,
            _E.READY: _S.RETIRING,  # it was starting when it was asked to leave
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

_RECENT_TRANSITIONS = 16  # events kept for the error message and for reports


class IllegalTransition(Exception):
    """An event that the table has no entry for: a defect of the caller, not of the worker."""

    def __init__(self, state: WorkerState, event: WorkerEvent, recent_transitions: tuple[str, ...]) -> None:
        self.state = state
        self.event = event
        self.recent_transitions = recent_transitions
        super().__init__(
            f"{event.value} is illegal in state {state.value}; its story: {', '.join(recent_transitions) or '(none)'}"
        )


class WorkerStateMachine:
    """Where one worker slot stands in the table, and how it came there."""

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
        """The last event; None: there was none yet."""
        return self._recent_transitions[-1] if self._recent_transitions else None

    def can(self, event: WorkerEvent) -> bool:
        """Whether the table has an entry for this event in the present state."""
        return event in self._row

    def apply(self, event: WorkerEvent) -> WorkerState:
        """Follow the table and return the new state.

        Raises:
            IllegalTransition: there is no such entry; nothing has changed.
        """
        successor = self._row.get(event)
        if successor is None:
            raise IllegalTransition(self.state, event, self.recent_transitions)
        self.state = successor
        self._row = TABLE[successor]
        self._recent_transitions.append(event)
        return successor
