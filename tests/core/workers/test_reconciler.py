"""Who is started, replaced, recycled, or asked to leave: so many are wanted, so many are there."""

from __future__ import annotations

from itertools import pairwise

from offloop.core.memory.allocator import pages
from offloop.core.model.commands import AnnounceOpening, Send, StartWorker
from offloop.core.model.events import WorkerExited
from offloop.core.model.worker_state import WorkerEvent, WorkerState
from offloop.core.tasks.crash_report import build_crash_report
from offloop.pool_events import WorkerCrashed
from offloop.wire.messages import Retire
from offloop.wire.status import STATUS_NBYTES

from ..firm import Firm

E, S = WorkerEvent, WorkerState


# Starts


def test_a_start_makes_an_outbox_as_large_as_the_whole_limit() -> None:
    firm = Firm()
    firm.now = 5.0
    nbytes = pages(1_000_000) + STATUS_NBYTES
    assert firm.reconcile() == [StartWorker(0, 1, nbytes)]
    assert (firm.slot.outbox_id, firm.slot.timer, firm.reconciler.starts) == (1, 15.0, 1)
    assert firm.arena.segment_nbytes(1) == nbytes


def test_as_many_are_started_as_may_work_at_once_and_the_spares() -> None:
    firm = Firm(2, spares=1)
    assert [type(command) for command in firm.reconcile()] == [StartWorker] * 3
    assert firm.reconcile() == [], "nobody is missing"
    assert firm.reconciler.wanted == 3


def test_no_more_are_started_at_the_same_moment_than_are_allowed() -> None:
    firm = Firm(4, max_starts=2)
    assert len(firm.reconcile()) == 2
    assert [slot.outbox_id for slot in firm.worker_table] == [1, 2, None, None]
    assert firm.reconcile() == []
    assert [type(command) for command in firm.ready(1)] == [StartWorker], "one is ready, the next is started"
    assert any(isinstance(command, StartWorker) for command in firm.die(0)), "one is dead, the next is started"
    assert sum(slot.outbox_id is not None and slot.ready_since is None for slot in firm.worker_table) == 2


def test_a_worker_that_was_ready_is_replaced_at_once() -> None:
    firm = Firm().opened()
    firm.now = 3.0
    (command,) = firm.die()
    assert isinstance(command, StartWorker)
    assert (command.slot, command.outbox_id) == (0, 2)
    assert (firm.slot.state, firm.slot.timer, firm.slot.ready_since) == (S.RESTARTING, 13.0, None)
    assert firm.reconciler.restart_policy.crashes == 1


def test_a_worker_that_we_ended_for_its_task_is_replaced_and_has_not_crashed() -> None:
    firm = Firm(restart_intensity=0).opened()
    (command,) = firm.die(crashed=False)
    assert isinstance(command, StartWorker)
    assert (firm.reconciler.restart_policy.crashes, firm.news(WorkerCrashed)) == (0, [])


def test_the_second_worker_that_dies_without_a_task_is_replaced_after_a_pause() -> None:
    firm = Firm().opened()
    assert firm.die(accepted=False)
    firm.ready(0)
    assert firm.die(accepted=False) == []
    assert firm.slot.timer is not None
    assert 0.08 <= firm.slot.timer <= 0.12
    firm.now = firm.slot.timer
    assert [type(command) for command in firm.reconcile()] == [StartWorker]


def test_a_crash_is_reported_whether_anybody_watches_or_not() -> None:
    firm = Firm().opened()
    firm.die(exit_code=-11)
    (crash,) = firm.news(WorkerCrashed)
    assert (crash.slot, crash.report.exit_code) == (0, -11)


# Starts that fail


def test_start_up_deaths_are_spaced_out_twice_as_far_each_time_up_to_a_cap() -> None:
    firm = Firm()
    firm.reconcile()
    pauses = [firm.fail_to_start()[0] for _ in range(9)]
    for pause, expected in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected
    assert all(before < after for before, after in pairwise(pauses[:6]))


def test_a_success_ends_the_row_of_start_up_deaths() -> None:
    firm = Firm()
    firm.reconcile()
    for _ in range(4):
        firm.fail_to_start()
    assert firm.slot.timer is not None
    firm.now = firm.slot.timer
    firm.reconcile()
    firm.ready(0)
    assert (firm.reconciler.unavailable_error, firm.reconciler.start_error) == (None, None)
    firm.die()
    assert firm.fail_to_start()[0] <= 0.12


def test_three_start_up_deaths_in_a_row_are_hopeless_and_say_why() -> None:
    firm = Firm()
    firm.reconcile()
    firm.fail_to_start()
    firm.fail_to_start()
    assert firm.reconciler.unavailable_error is None
    _, commands = firm.fail_to_start()
    assert firm.reconciler.unavailable_error is not None
    assert firm.reconciler.unavailable_error.exit_code == 1
    assert "last line" in firm.reconciler.unavailable_error.__notes__[0]
    assert firm.reconciler.last_failure is firm.reconciler.unavailable_error.report
    assert commands == [AnnounceOpening(firm.reconciler.unavailable_error)]
    assert len(firm.news(WorkerCrashed)) == 3


def test_start_up_deaths_are_counted_over_all_slots() -> None:
    firm = Firm(3)
    firm.reconcile()
    for index in range(3):
        firm.fail_to_start(index)
    assert firm.reconciler.unavailable_error is not None


def test_it_is_not_hopeless_while_somebody_is_at_work_but_no_fresh_one_comes() -> None:
    firm = Firm(2)
    firm.reconcile()
    firm.ready(0)
    for _ in range(3):
        firm.fail_to_start(1)
    assert firm.reconciler.unavailable_error is None
    assert firm.reconciler.start_error is not None


# The opening


def test_the_opening_is_announced_once_every_worker_had_its_first_start() -> None:
    firm = Firm(2)
    firm.reconcile()
    assert firm.ready(0) == []
    assert firm.ready(1) == [AnnounceOpening(None)]
    firm.die(0)
    assert firm.ready(0) == [], "and never again"


def test_the_opening_waits_for_those_whose_turn_to_start_comes_later() -> None:
    firm = Firm(1, spares=1, max_starts=1)
    firm.reconcile()
    assert AnnounceOpening(None) not in firm.ready(0)
    assert firm.ready(1) == [AnnounceOpening(None)]


def test_the_opening_is_announced_when_the_last_one_fails_to_start_and_another_is_at_work() -> None:
    firm = Firm(2)
    firm.reconcile()
    firm.ready(0)
    assert firm.die(1) == [AnnounceOpening(None)]


def test_the_opening_waits_while_nobody_is_at_work_and_there_is_hope() -> None:
    firm = Firm()
    firm.reconcile()
    assert firm.fail_to_start()[1] == []


# Who is too many


def test_a_worker_that_is_too_many_is_told_to_leave_and_has_its_grace() -> None:
    firm = Firm(2).opened()
    firm.now = 20.0
    assert firm.resize(1) == [Send(0, Retire())]
    assert (firm.slot.state, firm.slot.timer) == (S.RETIRING, 21.0)
    assert firm.die(0, 0) == []
    assert [slot.index for slot in firm.worker_table] == [1]
    assert firm.reconciler.recycled == 0


def test_those_on_the_way_leave_before_those_at_work_and_first_those_that_were_not_started() -> None:
    firm = Firm(3, max_starts=1)
    firm.reconcile()
    firm.ready(0)
    assert [slot.outbox_id for slot in firm.worker_table] == [1, 2, None]
    assert firm.resize(2) == [], "the one without a process is gone without a word"
    assert [slot.index for slot in firm.worker_table] == [0, 1]
    assert firm.resize(1) == [Send(1, Retire())]
    assert firm.states == [S.IDLE, S.RETIRING]


def test_whoever_is_busy_leaves_after_its_task() -> None:
    firm = Firm(2).opened()
    firm.work(0)
    firm.work(1)
    assert firm.resize(1) == []
    assert firm.answer(1) == [Send(1, Retire())]
    assert firm.answer(0) == []


def test_a_worker_that_is_condemned_is_waited_for_and_not_replaced() -> None:
    firm = Firm(2).opened()
    firm.worker_table.apply(firm.slot, E.PROTOCOL_VIOLATED)
    assert firm.resize(1) == []
    report = build_crash_report(firm.slot, WorkerExited(0, -9), 0.0)
    assert firm.reconciler.replace(firm.slot, 0.0, report, E.EXITED, crashed=True, accepted=False) == []
    assert [slot.index for slot in firm.worker_table] == [1]


def test_down_to_one_and_up_again_ends_with_as_many_as_are_wanted() -> None:
    firm = Firm(4).opened()
    firm.resize(1)
    starts = firm.resize(3)
    assert [command.slot for command in starts if isinstance(command, StartWorker)] == [4, 5]
    for index in (0, 1, 2):
        firm.die(index, 0)
    assert not firm.reconciler.converged
    firm.ready(4, 5)
    assert (firm.states, firm.reconciler.converged) == ([S.IDLE] * 3, True)


def test_a_resize_while_they_start_is_followed_by_the_starts_that_are_missing() -> None:
    firm = Firm(1)
    firm.reconcile()
    assert [type(command) for command in firm.resize(3)] == [StartWorker] * 2
    assert firm.resize(1) == [Send(0, Retire()), Send(1, Retire())]
    assert firm.ready(2) == [AnnounceOpening(None)]


def test_it_is_complete_when_so_many_are_at_work_and_nobody_leaves() -> None:
    firm = Firm(2)
    firm.reconcile()
    firm.ready(0)
    assert not firm.reconciler.converged
    firm.ready(1)
    assert firm.reconciler.converged
    firm.resize(1)
    assert not firm.reconciler.converged, "one is still leaving"
    firm.die(0, 0)
    assert firm.reconciler.converged
