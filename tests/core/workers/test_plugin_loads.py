"""Workers load their plugins before they are ready, within a time limit; a plugin whose load ends workers is switched off."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from offloop.core.model.commands import KillWorker, Send, SettleTask, StartWorker
from offloop.core.model.events import WorkerDisconnected, WorkerReported
from offloop.core.model.worker_state import WorkerState
from offloop.errors import PluginError
from offloop.pool_events import PluginUnavailable
from offloop.wire.messages import Loading, Ready, Run, Stage
from offloop.wire.status import LOADING_ID, Status

from ..pool_script import PoolScript, of_type, only, outcome_of

LOAD_TIMEOUT_S = 60.0
STAGES = {name: [Stage(name, msgspec.Raw(b"\x90"))] for name in ("good", "bad")}


def pool_of(workers: int = 1, **settings: Any) -> PoolScript:
    """A pool with two plugins, whose workers load them."""
    pool = PoolScript(workers, plugins=("good", "bad"), **settings)
    pool.start()
    for slot in range(workers):
        pool.handle(WorkerReported(slot, Loading(1)))
    return pool


def loading(index: int) -> Status:
    """Status page of a worker that loads the plugin of this index."""
    return Status(LOADING_ID, index, 0.0)


def start_and_load(pool: PoolScript, slot: int = 0) -> StartWorker:
    """The next process of a slot is started when its pause is over, and loads."""
    timer = pool.core.worker_table[slot].timer
    commands = pool.at(max(pool.clock(), timer or 0.0)) if pool.core.worker_table[slot].outbox_id is None else []
    pool.handle(WorkerReported(slot, Loading(1)))
    return only(of_type(commands, StartWorker))


def unavailable(pool: PoolScript) -> list[PluginUnavailable]:
    return [event for event in pool.core.event_log.drain() if isinstance(event, PluginUnavailable)]


def test_a_worker_that_loads_has_a_time_limit_of_its_own_and_gets_no_task() -> None:
    pool = PoolScript(1, plugins=("good",))
    assert only(of_type(pool.start(), StartWorker)).plugins == ("good",)
    pool.clock.advance_to(5.0)
    pool.handle(WorkerReported(0, Loading(1)))
    assert pool.state() is WorkerState.LOADING
    assert of_type(pool.run(1), Send) == []
    assert pool.at(5.0 + LOAD_TIMEOUT_S - 0.1) == []
    assert only(of_type(pool.handle(WorkerReported(0, Ready(1))), Send)).message.task_id == 1


def test_a_worker_that_does_not_load_in_time_is_killed_and_its_plugin_is_to_blame() -> None:
    pool = pool_of()
    assert pool.at(LOAD_TIMEOUT_S) == [KillWorker(0)]
    pool.exited(status=loading(1))
    failure = pool.core.groups.default.reconciler.last_failure
    assert failure is not None
    assert failure.reason == "it had not loaded its plugins within 60 s"
    assert failure.running == "the load of its plugin 'bad'"


def test_a_plugin_whose_load_ends_two_workers_is_switched_off_and_the_others_go_on() -> None:
    pool = pool_of()
    pool.run(1, stages=STAGES["bad"])
    pool.run(2, stages=STAGES["good"])
    pool.exited(status=loading(1))
    assert start_and_load(pool).plugins == ("good", "bad"), "once may be chance"
    commands = pool.exited(status=loading(1))
    error = outcome_of(commands, 1)
    assert isinstance(error, PluginError)
    assert "its load ended 2 workers; the last one was ended by SIGKILL" in str(error)
    assert [(event.plugin, event.switched_off) for event in unavailable(pool)] == [("bad", True)]
    assert start_and_load(pool).plugins == ("good",)
    (run,) = [send.message for send in of_type(pool.handle(WorkerReported(0, Ready(1))), Send) if isinstance(send.message, Run)]
    assert run.task_id == 2
    assert isinstance(outcome_of(pool.run(3, stages=STAGES["bad"]), 3), PluginError)


def test_workers_that_load_the_same_plugin_at_the_same_time_do_not_close_the_pool() -> None:
    pool = pool_of(4)
    for slot in range(4):
        commands = pool.exited(slot, status=loading(1))
        assert of_type(commands, SettleTask) == []
    assert pool.core.groups.default.reconciler.unavailable_error is None
    for slot in range(4):
        if pool.core.worker_table[slot].outbox_id is None:
            pool.at(max(pool.clock(), pool.core.worker_table[slot].timer or 0.0))
    assert {slot.plugins for slot in pool.core.worker_table} == {("good",)}


def test_a_death_before_or_after_the_load_blames_no_plugin() -> None:
    pool = pool_of()
    for status in (None, Status(0, 1, 0.0), Status(LOADING_ID, 7, 0.0)):
        pool.exited(status=status)
        start_and_load(pool)
    assert pool.core.groups.default.plugin_loads.switched_off == {}


def test_a_plugin_that_could_not_be_loaded_is_reported_once() -> None:
    pool = pool_of(2, budget_bytes=1 << 30)
    for slot in range(2):
        pool.handle(WorkerReported(slot, Ready(1, 40_000_000, {"bad": "no such file"})))
    assert [(event.plugin, event.reason, event.switched_off) for event in unavailable(pool)] == [("bad", "no such file", False)]
    assert pool.state(1) is WorkerState.IDLE
    assert pool.core.worker_table[1].idle_bytes == 40_000_000


def test_a_worker_cannot_blame_a_plugin_that_it_was_not_to_load() -> None:
    pool = pool_of()
    assert pool.handle(WorkerReported(0, Ready(1, 0, {"other": "x"}))) == [KillWorker(0)]


def test_ready_before_loading_is_a_violation() -> None:
    pool = PoolScript()
    pool.start()
    assert pool.handle(WorkerReported(0, Ready(1))) == [KillWorker(0)]


@pytest.mark.parametrize("source", ["none", "on its way"])
def test_a_task_that_was_on_its_way_when_its_plugin_was_switched_off_is_refused(source: str) -> None:
    pool = pool_of()
    if source != "none":
        pool.submit(1)
    for _ in range(2):
        pool.exited(status=loading(1))
        start_and_load(pool)
    commands = pool.prepare(1, stages=STAGES["bad"]) if source != "none" else pool.run(1, stages=STAGES["bad"])
    assert isinstance(outcome_of(commands, 1), PluginError)


def test_deaths_count_in_a_row_and_a_plugin_that_was_loaded_has_more_of_them() -> None:
    pool = pool_of(restart_intensity=1000)
    pool.handle(WorkerReported(0, Ready(1)))
    pool.handle(WorkerDisconnected(0))
    pool.exited(status=None)  # a crash, after which the next process starts at once
    pool.handle(WorkerReported(0, Loading(1)))
    for _ in range(5):
        pool.exited(status=loading(1))
        start_and_load(pool)
    pool.handle(WorkerReported(0, Ready(1)))
    pool.handle(WorkerDisconnected(0))
    pool.exited(status=None)  # the second crash without a task: after a pause
    start_and_load(pool)
    for deaths in range(6):
        assert pool.core.groups.default.plugin_loads.switched_off == {}, f"{deaths} deaths since the last load"
        pool.exited(status=loading(1))
        start_and_load(pool)
    assert set(pool.core.groups.default.plugin_loads.switched_off) == {"bad"}
