"""When a process is started, replaced, or asked to leave."""

from __future__ import annotations

from itertools import pairwise

import pytest

from offloop.core.allocator import pages
from offloop.core.arena import Arena
from offloop.core.commands import AnnounceOpening, Command, Send, StartWorker
from offloop.core.core_settings import CoreSettings
from offloop.core.crew import Crew, Slot
from offloop.core.hiring import Hiring
from offloop.core.worker_state import WorkerEvent, WorkerState
from offloop.wire.messages import Retire
from offloop.wire.status import STATUS_NBYTES

E, S = WorkerEvent, WorkerState
SETTINGS = CoreSettings(
    workers=1, limit_bytes=1_000_000, inbox_nbytes=500_000, max_queue=None, grace_s=1.0, start_timeout_s=10.0
)


class Firm:
    """A crew and who hires it."""

    def __init__(self, workers: int = 1) -> None:
        self.crew = Crew(workers)
        self.arena = Arena(1_000_000, 500_000)
        self.hiring = Hiring(self.crew, self.arena, SETTINGS)

    @property
    def slot(self) -> Slot:
        return self.crew[0]

    def ready(self, slot: Slot, now: float = 0.0) -> list[Command]:
        self.crew.apply(slot, E.READY)
        return self.hiring.succeeded(slot, now)

    def die(self, slot: Slot, now: float = 0.0, exit_code: int = 1) -> list[Command]:
        """The slot's process is dead, and waitid says so."""
        self.crew.apply(slot, E.EXITED)
        slot.outbox_id = None
        return self.hiring.replace(slot, now, exit_code, None, "last line")

    def fail_to_start(self, slot: Slot, now: float = 0.0) -> tuple[float, list[Command]]:
        """Start it, let it die at once; how long until the next start, and the commands."""
        self.hiring.start(slot, now)
        commands = self.die(slot, now)
        assert slot.timer is not None
        return slot.timer - now, commands


def test_a_start_makes_an_outbox_as_large_as_the_whole_limit() -> None:
    firm = Firm()
    nbytes = pages(1_000_000) + STATUS_NBYTES
    assert firm.hiring.start(firm.slot, 5.0) == [StartWorker(0, 1, nbytes)]
    assert (firm.slot.outbox_id, firm.slot.timer, firm.hiring.starts) == (1, 15.0, 1)
    assert firm.arena.segment_nbytes(1) == nbytes


def test_a_worker_that_was_ready_is_replaced_at_once() -> None:
    firm = Firm()
    firm.hiring.start(firm.slot, 0.0)
    firm.ready(firm.slot)
    (command,) = firm.die(firm.slot, 3.0)
    assert isinstance(command, StartWorker)
    assert (command.slot, command.outbox_id) == (0, 2)
    assert (firm.slot.state, firm.slot.timer, firm.slot.ready_since) == (S.RESTARTING, 13.0, None)


def test_start_up_deaths_are_spaced_out_twice_as_far_each_time_up_to_a_cap() -> None:
    firm = Firm()
    pauses = [firm.fail_to_start(firm.slot, float(n))[0] for n in range(10)]
    assert pauses[0] == pytest.approx(0.1)
    for before, after in pairwise(pauses):
        assert after == pytest.approx(min(2 * before, 5.0))
    assert pauses[-1] == pytest.approx(5.0)


def test_no_number_of_start_up_deaths_is_too_large() -> None:
    firm = Firm()
    pauses = [firm.fail_to_start(firm.slot)[0] for _ in range(1100)]
    assert pauses[-1] == pytest.approx(5.0)


def test_a_success_ends_the_row_of_start_up_deaths() -> None:
    firm = Firm()
    for _ in range(4):
        firm.fail_to_start(firm.slot)
    firm.hiring.start(firm.slot, 0.0)
    firm.ready(firm.slot)
    assert firm.hiring.hopeless is None
    firm.die(firm.slot)
    pause, _ = firm.fail_to_start(firm.slot)
    assert pause == pytest.approx(0.1)


def test_three_start_up_deaths_in_a_row_are_hopeless_and_say_why() -> None:
    firm = Firm()
    firm.fail_to_start(firm.slot)
    firm.fail_to_start(firm.slot)
    assert firm.hiring.hopeless is None
    _, commands = firm.fail_to_start(firm.slot)
    assert firm.hiring.hopeless is not None
    assert firm.hiring.hopeless.exit_code == 1
    assert "last line" in str(firm.hiring.hopeless)
    assert commands == [AnnounceOpening(firm.hiring.hopeless)]


def test_start_up_deaths_are_counted_over_all_slots() -> None:
    firm = Firm(3)
    for slot in firm.crew:
        firm.fail_to_start(slot)
    assert firm.hiring.hopeless is not None


def test_it_is_not_hopeless_while_somebody_is_at_work() -> None:
    firm = Firm(2)
    worker, slot = firm.crew
    firm.hiring.start(worker, 0.0)
    firm.ready(worker)
    for _ in range(5):
        firm.fail_to_start(slot)
    assert firm.hiring.hopeless is None


def test_the_opening_is_announced_once_every_worker_had_its_first_start() -> None:
    firm = Firm(2)
    for slot in firm.crew:
        firm.hiring.start(slot, 0.0)
    first, second = firm.crew
    assert firm.ready(first) == []
    assert firm.ready(second) == [AnnounceOpening(None)]
    firm.die(first)
    assert firm.ready(first) == [], "and never again"


def test_the_opening_is_announced_when_the_last_one_fails_to_start_and_another_is_at_work() -> None:
    firm = Firm(2)
    for slot in firm.crew:
        firm.hiring.start(slot, 0.0)
    firm.ready(firm.crew[0])
    assert firm.die(firm.crew[1]) == [AnnounceOpening(None)]


def test_the_opening_waits_while_nobody_is_at_work_and_there_is_hope() -> None:
    firm = Firm()
    _, commands = firm.fail_to_start(firm.slot)
    assert commands == []


def test_a_worker_that_is_asked_to_leave_is_told_and_has_its_grace() -> None:
    firm = Firm()
    firm.hiring.start(firm.slot, 0.0)
    firm.ready(firm.slot)
    assert firm.hiring.retire(firm.slot, 20.0) == [Send(0, Retire())]
    assert (firm.slot.state, firm.slot.timer) == (S.RETIRING, 21.0)


def test_a_worker_that_is_condemned_is_not_told_but_waited_for() -> None:
    firm = Firm()
    firm.hiring.start(firm.slot, 0.0)
    firm.crew.apply(firm.slot, E.MISBEHAVED)
    assert firm.hiring.retire(firm.slot, 20.0) == []
    assert firm.slot.state is S.RETIRING


def test_an_empty_slot_that_is_asked_to_leave_is_gone() -> None:
    firm = Firm()
    firm.fail_to_start(firm.slot)
    assert firm.hiring.retire(firm.slot, 20.0) == []
    assert (firm.slot.state, firm.slot.timer) == (S.GONE, None)


def test_a_worker_that_left_is_not_replaced() -> None:
    firm = Firm()
    firm.hiring.start(firm.slot, 0.0)
    firm.hiring.retire(firm.slot, 0.0)
    firm.slot.outbox_id = None
    assert firm.hiring.replace(firm.slot, 1.0, 0, None, "") == []
    assert (firm.slot.state, firm.hiring.starts) == (S.GONE, 1)
