"""Keeping the slots filled: when a process is started, replaced, or asked to leave.

A death is followed by a new start at once. Processes that die before they are ever ready mean that something is wrong with the
installation, not with a task: those starts are spaced out, and when several in a row have failed and nobody is at work, the
waiting tasks are told so instead of waiting for ever.
"""

from __future__ import annotations

from ..errors import WorkerDied
from ..wire.messages import Retire
from ..wire.status import STATUS_NBYTES
from .allocator import pages
from .arena import Arena
from .commands import AnnounceOpening, Command, Send, StartWorker
from .core_settings import CoreSettings
from .crew import Crew, Slot
from .worker_state import WorkerEvent, WorkerState

__all__ = ["Hiring"]

_BACK_OFF_S = 0.1  # after the first start-up death; doubles with each
_MAX_BACK_OFF_S = 5.0
_HOPELESS_AFTER = 3  # start-up deaths in a row


class Hiring:
    """Starts, replacements and farewells."""

    def __init__(self, crew: Crew, arena: Arena, settings: CoreSettings) -> None:
        self._crew = crew
        self._arena = arena
        self._settings = settings
        self._start_deaths = 0  # in a row, over all slots
        self._announced = False
        self.starts = 0  # processes started, for statistics
        self.hopeless: WorkerDied | None = None  # set while no worker can be brought up

    def start(self, slot: Slot, now: float) -> list[Command]:
        """Start a process for an empty slot that is STARTING or RESTARTING."""
        slot.outbox_id = self._crew.new_outbox_id()
        slot.verdict = None
        slot.ready_since = None
        self._crew.set_timer(slot, now + self._settings.start_timeout_s)
        self.starts += 1
        nbytes = pages(self._settings.limit_bytes) + STATUS_NBYTES
        self._arena.add_segment(slot.outbox_id, nbytes, keep=STATUS_NBYTES)
        return [StartWorker(slot.index, slot.outbox_id, nbytes)]

    def succeeded(self, slot: Slot, now: float) -> list[Command]:
        """A slot's worker is ready."""
        slot.ready_since = now
        self._start_deaths = 0
        self.hopeless = None
        return self._maybe_announce()

    def replace(self, slot: Slot, now: float, exit_code: int | None, reason: str | None, stderr_tail: str) -> list[Command]:
        """A slot's process is dead: start the next one, now or after a pause."""
        if self._crew.apply(slot, WorkerEvent.REAPED) is WorkerState.GONE:
            return []
        if slot.ready_since is not None:
            return self.start(slot, now)
        self._start_deaths += 1
        self._crew.set_timer(slot, now + min(_BACK_OFF_S * 2 ** min(self._start_deaths - 1, 10), _MAX_BACK_OFF_S))
        at_work = self._crew.count(WorkerState.IDLE, WorkerState.BUSY, WorkerState.TIMED_OUT)
        if self._start_deaths >= _HOPELESS_AFTER and not at_work:
            self.hopeless = WorkerDied(exit_code, reason=reason, running="its start", stderr_tail=stderr_tail)
        return self._maybe_announce()

    def retire(self, slot: Slot, now: float) -> list[Command]:
        """Ask the slot's process to leave; an empty slot is gone at once."""
        if slot.outbox_id is None:
            self._crew.apply(slot, WorkerEvent.RETIREMENT_REQUESTED)
            self._crew.apply(slot, WorkerEvent.REAPED)
            return []
        condemned = slot.state is WorkerState.FAILED
        self._crew.apply(slot, WorkerEvent.RETIREMENT_REQUESTED, now + self._settings.grace_s)
        return [] if condemned else [Send(slot.index, Retire())]

    def _maybe_announce(self) -> list[Command]:
        if self._announced or (self._crew.count(WorkerState.STARTING) and self.hopeless is None):
            return []
        at_work = self._crew.count(WorkerState.IDLE, WorkerState.BUSY, WorkerState.TIMED_OUT)
        if not at_work and self.hopeless is None:
            return []
        self._announced = True
        return [AnnounceOpening(self.hopeless)]
