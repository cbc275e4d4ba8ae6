"""Worker groups in a pool: what each has for itself, and what they share."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from offloop.core.model.commands import AbandonWorker, AnnounceOpening, Command, Send, SettleTask, StartWorker
from offloop.core.model.events import WorkerAbandoned, WorkerViolatedProtocol
from offloop.core.model.settings import GroupSettings
from offloop.core.model.worker_state import WorkerState
from offloop.errors import PluginError, QueueFull, WorkerDied
from offloop.pool_events import PluginUnavailable, WorkerCrashed
from offloop.wire.messages import Loading, Retire, Stage
from offloop.wire.status import LOADING_ID, Status

from .pool_script import MIB, PoolScript, estimate, of_type, only, outcome_of, runs

S = WorkerState
LIMIT = 1024 * MIB
IDLE_S = 30.0


def on_demand(workers: int = 2, **more: Any) -> GroupSettings:
    return GroupSettings(name="models", workers=workers, min_workers=0, **more)


def pool_with(group: GroupSettings, workers: int = 1, **more: Any) -> PoolScript:
    return PoolScript(workers, groups=[group], **more).opened()


def started_in(commands: list[Command]) -> list[str]:
    return [start.group for start in of_type(commands, StartWorker)]


def given_to(commands: list[Command]) -> list[int]:
    return [send.slot for send in runs(commands)]


def retired(commands: list[Command]) -> list[int]:
    return [send.slot for send in of_type(commands, Send) if isinstance(send.message, Retire)]


# Start and end


def test_a_group_on_demand_starts_with_its_first_task_and_runs_it() -> None:
    pool = pool_with(on_demand())
    assert len(pool.core.worker_table) == 1
    start = only(of_type(pool.run(1, group="models"), StartWorker))
    assert (start.slot, start.group) == (1, "models")
    assert given_to(pool.ready(1)) == [1]
    assert pool.statistics.groups["models"].workers == {"busy": 1}


def test_a_group_has_as_many_workers_as_waiting_tasks_up_to_its_maximum() -> None:
    pool = pool_with(on_demand(2))
    starts = [group for task_id in (1, 2, 3) for group in started_in(pool.run(task_id, group="models"))]
    assert starts == ["models", "models"]


def test_a_group_on_demand_leaves_when_it_was_idle_and_comes_back_with_the_next_task() -> None:
    pool = pool_with(on_demand())
    pool.run(1, group="models")
    pool.ready(1)
    pool.done(1, 1)
    pool.at(IDLE_S)
    assert retired(pool.at(2 * IDLE_S)) == [1]
    pool.exited(1, exit_code=0)
    assert pool.statistics.groups["models"].workers == {}
    assert started_in(pool.run(2, group="models")) == ["models"]


def test_a_group_with_a_minimum_starts_with_the_pool_and_the_opening_does_not_wait_for_it() -> None:
    pool = PoolScript(1, groups=[GroupSettings(name="models", workers=1)])
    assert started_in(pool.start()) == ["default", "models"]
    assert of_type(pool.report_ready(0), AnnounceOpening) == [AnnounceOpening(None)]
    assert of_type(pool.report_ready(1), AnnounceOpening) == []


def test_starts_at_the_same_time_are_limited_for_the_pool_and_continue_in_another_group() -> None:
    pool = PoolScript(1, groups=[GroupSettings(name="models", workers=1)], max_starts=1)
    assert started_in(pool.start()) == ["default"]
    assert started_in(pool.report_ready(0)) == ["models"]


def test_a_start_that_is_given_up_makes_room_for_a_start_of_another_group() -> None:
    pool = PoolScript(2, groups=[GroupSettings(name="models", workers=1)], max_starts=2)
    assert started_in(pool.start()) == ["default", "default"]
    assert started_in(pool.resize(1)) == ["models"]


def test_a_pool_that_closes_retires_the_workers_of_all_groups() -> None:
    pool = pool_with(on_demand())
    pool.run(1, group="models")
    pool.ready(1)
    pool.done(1, 1)
    assert sorted(retired(pool.close())) == [0, 1]


def test_a_resize_concerns_one_group() -> None:
    pool = pool_with(GroupSettings(name="models", workers=1))
    assert started_in(pool.resize(2, "models")) == ["models"]
    pool.ready(2)
    assert started_in(pool.resize(2)) == ["default"]
    assert not pool.core.groups.default.reconciler.converged
    assert pool.core.groups.by_name["models"].reconciler.converged


# Tasks


def test_an_idle_worker_of_another_group_gets_no_task() -> None:
    pool = pool_with(GroupSettings(name="models", workers=1))
    assert given_to(pool.run(1, group="models")) == [1]
    assert given_to(pool.run(2, group="models")) == [], "the worker of the default group is idle"
    assert given_to(pool.run(3)) == [0], "a task that waits for another group holds up no task"


def test_a_result_in_place_is_copied_for_a_task_of_another_group() -> None:
    pool = pool_with(GroupSettings(name="models", workers=1))
    outbox = pool.core.worker_table[0].outbox_id
    assert given_to(pool.run(1, group="models", outbox_id=outbox)) == []


def test_where_no_task_may_wait_a_group_on_demand_starts_all_the_same() -> None:
    pool = pool_with(on_demand(1), max_queue=0)
    assert started_in(pool.run(1, group="models")) == ["models"]
    assert isinstance(outcome_of(pool.run(2, group="models"), 2), QueueFull)


def test_memory_pressure_lowers_the_limit_of_each_group() -> None:
    pool = pool_with(GroupSettings(name="models", workers=8), workers=4)
    pool.press(0.01)
    assert [group.slots.concurrency_limit for group in pool.core.groups] == [4, 4, 4], "half of the largest group"
    pool.clock.advance_to(2.0)
    pool.press(0.01)
    assert [group.slots.concurrency_limit for group in pool.core.groups] == [2, 2, 2]


# Memory


class TwoGroups:
    """A pool in which a task of the default group fills the budget."""

    def __init__(self, running_s: float = 5.0) -> None:
        group = GroupSettings(name="models", workers=2)
        sizes: dict[str, Any] = {"limit_bytes": LIMIT, "inbox_nbytes": LIMIT // 2, "budget_bytes": LIMIT}
        self.script = PoolScript(4, groups=[group], **sizes).opened()
        assert given_to(self.run(1, 800, running_s)) != []

    def run(self, task_id: int, peak_mib: int, work_s: float, group: str = "default") -> list[Command]:
        return self.script.run(task_id, estimate=estimate(peak_mib * MIB, work_s), group=group)


def test_a_task_that_is_blocked_by_memory_holds_its_reservation_against_other_groups() -> None:
    pool = TwoGroups(running_s=0.5)
    assert given_to(pool.run(2, 600, 1.0, "models")) == []
    assert given_to(pool.run(3, 100, 0.4)) != [], "it ends before there is memory for the blocked task"
    assert given_to(pool.run(4, 100, 9.0)) != [], "there is memory for it beside the blocked task"
    assert given_to(pool.run(5, 20, 9.0)) != []
    assert given_to(pool.run(6, 0, 9.0)) == [], "no worker is idle in the default group"
    commands = pool.script.done(3, pool.script.slot_of(3))
    assert [send.message.task_id for send in runs(commands)] == [6]


def test_a_task_of_another_group_that_would_delay_the_blocked_task_waits() -> None:
    pool = TwoGroups(running_s=0.5)
    pool.run(2, 900, 1.0, "models")
    assert given_to(pool.run(3, 150, 9.0)) == [], "there is memory for it, and the default group has idle workers"
    assert given_to(pool.run(4, 150, 0.1)) != []


def test_the_task_that_was_blocked_first_is_the_first_to_get_memory() -> None:
    pool = TwoGroups()
    pool.run(2, 700, 1.0, "models")
    pool.script.clock.advance_to(1.0)
    pool.run(3, 700, 0.1)
    commands = pool.script.done(1, pool.script.slot_of(1))
    assert [send.message.task_id for send in runs(commands)] == [2], "although the other one costs less"


def test_the_first_worker_of_a_group_starts_without_memory_for_its_task_so_that_the_task_can_reserve_some() -> None:
    pool = PoolScript(2, groups=[on_demand()], budget_bytes=LIMIT, limit_bytes=LIMIT, inbox_nbytes=LIMIT // 2).opened()
    pool.run(1, estimate=estimate(800 * MIB, 5.0))
    assert started_in(pool.run(2, estimate=estimate(600 * MIB, 1.0), group="models")) == ["models"]
    assert started_in(pool.run(3, estimate=estimate(600 * MIB, 1.0), group="models")) == []
    assert given_to(pool.ready(2)) == []
    assert given_to(pool.run(4, estimate=estimate(150 * MIB, 9.0))) != [], "there is memory for it beside the blocked task"


def test_idle_workers_of_all_groups_share_the_memory_that_workers_may_keep() -> None:
    pool = PoolScript(1, groups=[on_demand()], budget_bytes=LIMIT, limit_bytes=LIMIT, inbox_nbytes=LIMIT // 2).opened()
    alone = pool.core.worker_table[0].max_bytes
    pool.run(1, group="models")
    pool.ready(1)
    assert pool.core.worker_table[1].max_bytes == alone / 2


# Tenants


def test_a_tenants_task_in_one_group_is_charged_in_the_other() -> None:
    pool = PoolScript(1, groups=[GroupSettings(name="models", workers=1)]).opened()
    pool.run(1)
    pool.run(2, group="models")
    for task_id, tenant in ((3, "a"), (4, "b"), (5, "a"), (6, "b")):
        pool.run(task_id, tenant=tenant, estimate=estimate(0, 1.0))
    pool.run(7, tenant="a", group="models", estimate=estimate(0, 1.0))
    pool.done(2, 1)  # the task of tenant a starts in the other group
    assert [send.message.task_id for send in runs(pool.done(1, 0))] == [4], "tenant b is next, although a was first"


# Failures


def test_a_crash_is_counted_in_its_group_and_names_it() -> None:
    pool = pool_with(GroupSettings(name="models", workers=1, restart_intensity=0))
    pool.run(1, group="models")
    pool.exited(1, exit_code=-11)
    groups = pool.statistics.groups
    assert (groups["models"].breaker, groups["default"].breaker, pool.statistics.breaker) == ("open", "closed", "open")
    assert (groups["models"].crashes, groups["default"].crashes, pool.statistics.worker_crashes) == (1, 0, 1)
    assert [event.group for event in pool.core.event_log.entries if isinstance(event, WorkerCrashed)] == ["models"]


def test_a_group_that_cannot_start_fails_its_own_tasks_and_gives_up_when_none_waits() -> None:
    pool = pool_with(on_demand(1))
    pool.run(1, group="models")
    commands: list[Command] = []
    for _ in range(3):
        slot = pool.core.worker_table[1]
        commands += pool.at(max(pool.clock(), slot.timer or 0.0)) if slot.outbox_id is None else []
        commands += pool.exited(1, exit_code=1)
    assert isinstance(outcome_of(commands, 1), WorkerDied)
    assert given_to(pool.run(2)) == [0]
    assert pool.statistics.groups["models"].desired == 1, "it goes on trying"
    while pool.clock() < IDLE_S:
        pool.at(max(pool.core.wake_at, pool.clock() + 0.1))
        if pool.core.worker_table.slots.get(1) is not None and pool.core.worker_table[1].outbox_id is not None:
            pool.exited(1, exit_code=1)
    assert (pool.statistics.groups["models"].desired, len(pool.core.worker_table)) == (0, 1)


def test_a_plugin_is_switched_off_in_its_group_only() -> None:
    plugins = ("faults", "bad")
    pool = PoolScript(1, plugins=("faults",), groups=[on_demand(1, plugins=plugins)]).opened()
    bad = [Stage("bad", msgspec.Raw(b"\x90"))]
    commands = pool.run(1, group="models", stages=bad)
    for _ in range(2):
        slot = pool.core.worker_table[1]
        commands += pool.at(max(pool.clock(), slot.timer or 0.0)) if slot.outbox_id is None else []
        pool.report(1, Loading(pid=1))
        commands += pool.exited(1, exit_code=7, status=Status(LOADING_ID, 1, 0.0))
    assert isinstance(outcome_of(commands, 1), PluginError)
    (event,) = [event for event in pool.core.event_log.entries if isinstance(event, PluginUnavailable)]
    assert (event.group, event.plugin) == ("models", "bad")
    assert of_type(pool.run(2, group="models"), SettleTask) == [], "its other plugins go on"
    assert pool.statistics.groups["default"].switched_off == {}


def test_workers_for_small_tasks_are_started_without_a_plugin_that_the_default_group_has_switched_off() -> None:
    pool = PoolScript(1, plugins=("faults", "bad")).opened()
    groups = pool.core.groups
    assert groups.small.plugin_loads is groups.default.plugin_loads


def test_abandoned_processes_of_one_group_leave_the_other_its_workers() -> None:
    pool = pool_with(GroupSettings(name="models", workers=1))
    for _ in range(2):
        pool.handle(WorkerViolatedProtocol(1, "nonsense"))
        assert of_type(pool.at(pool.clock() + 5.0), AbandonWorker) == [AbandonWorker(1)]
        pool.handle(WorkerAbandoned(1))
    assert pool.statistics.groups["models"].desired == 0
    assert pool.statistics.groups["default"].workers == {"idle": 1}
    assert isinstance(outcome_of(pool.run(1, group="models"), 1), WorkerDied)


@pytest.mark.parametrize("group", ["default", "models"])
def test_a_task_that_needs_an_unused_worker_gets_one_of_its_group(group: str) -> None:
    pool = pool_with(GroupSettings(name="models", workers=1))
    slot = given_to(pool.run(1, group=group, retries=1))[0]
    pool.exited(slot, exit_code=-11)
    assert given_to(pool.ready(slot)) == [slot]
