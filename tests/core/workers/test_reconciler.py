"""Worker reconciler: starts missing workers, replaces dead ones, retires surplus ones."""

from __future__ import annotations

from itertools import pairwise

from offloop.core.memory.allocator import pages
from offloop.core.model.commands import AnnounceOpening, Send, StartWorker
from offloop.core.model.events import WorkerExited
from offloop.core.model.worker_state import WorkerEvent, WorkerState
from offloop.core.tasks.crash_report import build_crash_report
from offloop.core.workers.restart_policy import CircuitBreaker
from offloop.pool_events import BreakerMoved, WorkerCrashed
from offloop.wire.messages import Retire
from offloop.wire.status import STATUS_NBYTES

from ..worker_script import WorkerScript

E, S = WorkerEvent, WorkerState


# Starts


def test_a_start_makes_an_outbox_as_large_as_the_whole_limit() -> None:
    script = WorkerScript()
    script.now = 5.0
    nbytes = pages(1_000_000) + STATUS_NBYTES
    assert script.reconcile() == [StartWorker(0, 1, nbytes)]
    assert (script.slot.outbox_id, script.slot.timer, script.reconciler.starts) == (1, 15.0, 1)
    assert script.arena.segment_nbytes(1) == nbytes


def test_as_many_workers_as_tasks_at_once_are_started_and_the_spares() -> None:
    script = WorkerScript(2, spares=1)
    assert [type(command) for command in script.reconcile()] == [StartWorker] * 3
    assert script.reconcile() == [], "no worker is missing"
    assert script.reconciler.wanted == 3


def test_no_more_workers_start_at_the_same_time_than_allowed() -> None:
    script = WorkerScript(4, max_starts=2)
    assert len(script.reconcile()) == 2
    assert [slot.outbox_id for slot in script.worker_table] == [1, 2, None, None]
    assert script.reconcile() == []
    assert [type(command) for command in script.ready(1)] == [StartWorker], "one worker is ready, so the next one starts"
    assert any(isinstance(command, StartWorker) for command in script.die(0)), "one worker is dead, so the next one starts"
    assert sum(slot.outbox_id is not None and slot.ready_since is None for slot in script.worker_table) == 2


def test_a_worker_that_was_ready_is_replaced_at_once() -> None:
    script = WorkerScript().opened()
    script.now = 3.0
    (command,) = script.die()
    assert isinstance(command, StartWorker)
    assert (command.slot, command.outbox_id) == (0, 2)
    assert (script.slot.state, script.slot.timer, script.slot.ready_since) == (S.RESTARTING, 13.0, None)
    assert script.reconciler.restart_policy.crashes == 1


def test_a_worker_that_we_ended_for_its_task_is_replaced_and_has_not_crashed() -> None:
    script = WorkerScript(restart_intensity=0).opened()
    (command,) = script.die(crashed=False)
    assert isinstance(command, StartWorker)
    assert (script.reconciler.restart_policy.crashes, script.logged(WorkerCrashed)) == (0, [])


def test_the_second_worker_that_dies_without_a_task_is_replaced_after_a_pause() -> None:
    script = WorkerScript().opened()
    assert script.die(accepted=False)
    script.ready(0)
    assert script.die(accepted=False) == []
    assert script.slot.timer is not None
    assert 0.08 <= script.slot.timer <= 0.12
    script.now = script.slot.timer
    assert [type(command) for command in script.reconcile()] == [StartWorker]


def test_a_crash_is_reported_also_without_a_subscriber() -> None:
    script = WorkerScript().opened()
    script.die(exit_code=-11)
    (crash,) = script.logged(WorkerCrashed)
    assert (crash.slot, crash.report.exit_code) == (0, -11)


# Starts that fail


def test_start_up_deaths_are_spaced_out_twice_as_far_each_time_up_to_a_cap() -> None:
    script = WorkerScript()
    script.reconcile()
    pauses = [script.fail_to_start()[0] for _ in range(9)]
    for pause, expected in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected
    assert all(before < after for before, after in pairwise(pauses[:6]))


def test_a_success_ends_the_row_of_start_up_deaths() -> None:
    script = WorkerScript()
    script.reconcile()
    for _ in range(4):
        script.fail_to_start()
    assert script.slot.timer is not None
    script.now = script.slot.timer
    script.reconcile()
    script.ready(0)
    assert (script.reconciler.unavailable_error, script.reconciler.start_error) == (None, None)
    script.die()
    assert script.fail_to_start()[0] <= 0.12


def test_after_three_failed_starts_in_a_row_the_pool_is_unavailable_with_the_reason() -> None:
    script = WorkerScript()
    script.reconcile()
    script.fail_to_start()
    script.fail_to_start()
    assert script.reconciler.unavailable_error is None
    _, commands = script.fail_to_start()
    assert script.reconciler.unavailable_error is not None
    assert script.reconciler.unavailable_error.exit_code == 1
    assert "last line" in script.reconciler.unavailable_error.__notes__[0]
    assert script.reconciler.last_failure is script.reconciler.unavailable_error.report
    assert commands == [AnnounceOpening(script.reconciler.unavailable_error)]
    assert len(script.logged(WorkerCrashed)) == 3


def test_start_up_deaths_are_counted_over_all_slots() -> None:
    script = WorkerScript(3)
    script.reconcile()
    for index in range(3):
        script.fail_to_start(index)
    assert script.reconciler.unavailable_error is not None


def test_after_failed_starts_the_pool_is_available_while_a_worker_is_ready_but_has_a_start_error() -> None:
    script = WorkerScript(2)
    script.reconcile()
    script.ready(0)
    for _ in range(3):
        script.fail_to_start(1)
    assert script.reconciler.unavailable_error is None
    assert script.reconciler.start_error is not None


# The opening


def test_the_opening_is_announced_once_every_worker_had_its_first_start() -> None:
    script = WorkerScript(2)
    script.reconcile()
    assert script.ready(0) == []
    assert script.ready(1) == [AnnounceOpening(None)]
    script.die(0)
    assert script.ready(0) == [], "only once"


def test_the_opening_waits_for_workers_that_start_later() -> None:
    script = WorkerScript(1, spares=1, max_starts=1)
    script.reconcile()
    assert AnnounceOpening(None) not in script.ready(0)
    assert script.ready(1) == [AnnounceOpening(None)]


def test_the_opening_is_announced_when_the_last_start_fails_and_another_worker_is_ready() -> None:
    script = WorkerScript(2)
    script.reconcile()
    script.ready(0)
    assert script.die(1) == [AnnounceOpening(None)]


def test_the_opening_waits_while_no_worker_is_ready_and_starts_go_on() -> None:
    script = WorkerScript()
    script.reconcile()
    assert script.fail_to_start()[1] == []


# Surplus workers


def test_a_surplus_worker_is_retired_with_a_grace() -> None:
    script = WorkerScript(2).opened()
    script.now = 20.0
    assert script.resize(1) == [Send(0, Retire())]
    assert (script.slot.state, script.slot.timer) == (S.RETIRING, 21.0)
    assert script.die(0, 0) == []
    assert [slot.index for slot in script.worker_table] == [1]
    assert script.reconciler.recycled == 0


def test_starting_workers_leave_before_ready_ones_and_first_slots_without_a_process() -> None:
    script = WorkerScript(3, max_starts=1)
    script.reconcile()
    script.ready(0)
    assert [slot.outbox_id for slot in script.worker_table] == [1, 2, None]
    assert script.resize(2) == [], "a slot without a process is removed at once"
    assert [slot.index for slot in script.worker_table] == [0, 1]
    assert script.resize(1) == [Send(1, Retire())]
    assert script.states == [S.IDLE, S.RETIRING]


def test_a_busy_surplus_worker_leaves_after_its_task() -> None:
    script = WorkerScript(2).opened()
    script.work(0)
    script.work(1)
    assert script.resize(1) == []
    assert script.answer(1) == [Send(1, Retire())]
    assert script.answer(0) == []


def test_a_surplus_worker_that_is_being_killed_is_not_replaced() -> None:
    script = WorkerScript(2).opened()
    script.worker_table.apply(script.slot, E.PROTOCOL_VIOLATED, 0.0)
    assert script.resize(1) == []
    report = build_crash_report(script.slot, WorkerExited(0, -9), 0.0)
    assert script.reconciler.replace(script.slot, 0.0, report, E.EXITED, crashed=True, accepted=False) == []
    assert [slot.index for slot in script.worker_table] == [1]


def test_after_a_resize_down_and_up_again_there_are_as_many_workers_as_wanted() -> None:
    script = WorkerScript(4).opened()
    script.resize(1)
    starts = script.resize(3)
    assert [command.slot for command in starts if isinstance(command, StartWorker)] == [4, 5]
    for index in (0, 1, 2):
        script.die(index, 0)
    assert not script.reconciler.converged
    script.ready(4, 5)
    assert (script.states, script.reconciler.converged) == ([S.IDLE] * 3, True)


def test_a_resize_during_the_starts_is_followed_by_the_missing_starts() -> None:
    script = WorkerScript(1)
    script.reconcile()
    assert [type(command) for command in script.resize(3)] == [StartWorker] * 2
    assert script.resize(1) == [Send(0, Retire()), Send(1, Retire())]
    assert script.ready(2) == [AnnounceOpening(None)]


def test_the_pool_has_converged_when_all_wanted_workers_are_ready_and_none_is_leaving() -> None:
    script = WorkerScript(2)
    script.reconcile()
    script.ready(0)
    assert not script.reconciler.converged
    script.ready(1)
    assert script.reconciler.converged
    script.resize(1)
    assert not script.reconciler.converged, "one worker is still leaving"
    script.die(0, 0)
    assert script.reconciler.converged


# The breaker


def pool_with_open_breaker() -> WorkerScript:
    """A pool of three workers after two deaths: the breaker is open."""
    script = WorkerScript(3, restart_intensity=1).opened()
    assert script.die(0)
    assert script.die(1) == []
    assert script.reconciler.restart_policy.breaker is CircuitBreaker.OPEN
    return script


def test_a_half_open_breaker_starts_one_worker_and_the_others_follow_its_success_at_once() -> None:
    script = pool_with_open_breaker()
    script.die(0)
    script.now = script.reconciler.restart_policy.wake_at + 10.0
    (start,) = script.reconcile()
    assert isinstance(start, StartWorker)
    waiting = next(slot for slot in script.worker_table if slot.outbox_id is None)
    assert waiting.timer is None, "it waits for the half-open slot"
    script.ready(start.slot)
    script.work(start.slot)
    (follower,) = script.answer(start.slot)
    assert isinstance(follower, StartWorker)
    assert follower.slot == waiting.index


def test_changes_of_the_breaker_are_logged() -> None:
    script = pool_with_open_breaker()
    script.now = script.reconciler.restart_policy.wake_at
    script.reconcile()
    script.now = 100.0
    script.ready(1)
    script.now = script.reconciler.restart_policy.wake_at
    script.reconcile()
    moves = [(move.before, move.after) for move in script.logged(BreakerMoved)]
    assert moves == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]


def test_a_half_open_breaker_without_a_task_closes_after_a_while() -> None:
    script = WorkerScript(2, restart_intensity=1).opened()
    script.die(0)
    script.die(1)
    script.die(0)
    script.now = script.reconciler.restart_policy.wake_at + 10.0
    (start,) = script.reconcile()
    assert isinstance(start, StartWorker)
    script.ready(start.slot)
    assert script.states.count(S.IDLE) == 1
    script.now = script.reconciler.restart_policy.wake_at
    assert [type(command) for command in script.reconcile()] == [StartWorker]
