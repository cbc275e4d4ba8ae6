"""Plugin preloader: which workers load which plugins before their first task."""

from __future__ import annotations

from typing import Any

from offloop.core.model.commands import Send
from offloop.wire.messages import Retire, Warm

from ..pool_script import PoolScript, of_type


def warmed(commands: list[Any]) -> list[tuple[int, list[str]]]:
    """Slot and plugins of each `Warm` message."""
    return [(command.slot, command.message.plugins) for command in of_type(commands, Send) if isinstance(command.message, Warm)]


def test_no_worker_preloads_a_plugin_that_has_not_worked_before() -> None:
    pool = PoolScript(1, spares=1)
    pool.start()
    assert warmed(pool.ready(0) + pool.ready(1)) == []
    pool.run(1)
    assert warmed(pool.failed(1, slot=busy(pool))) == []


def test_the_first_success_of_a_plugin_has_every_idle_worker_load_it_that_had_no_task() -> None:
    pool = PoolScript(1, spares=2).opened()
    pool.run(1)
    worker = busy(pool)
    assert sorted(warmed(pool.done(1, worker))) == [(slot, ["faults"]) for slot in range(3) if slot != worker]
    pool.run(2)
    assert warmed(pool.done(2, busy(pool))) == [], "they have them already"


def test_a_replacement_preloads_plugins_that_have_worked_as_soon_as_it_is_ready() -> None:
    pool = PoolScript(1).opened()
    pool.run(1)
    pool.done(1)
    pool.reaped(0)
    assert warmed(pool.ready(0)) == [(0, ["faults"])]


def test_a_worker_for_which_a_task_waits_preloads_nothing() -> None:
    pool = PoolScript(1).opened()
    pool.run(1)
    pool.done(1)
    pool.reaped(0)
    pool.run(2)
    assert warmed(pool.ready(0)) == []


def test_a_retiring_worker_is_not_told_to_preload() -> None:
    pool = PoolScript(1, spares=1).opened()
    pool.run(1)
    commands = pool.close() + pool.done(1, busy(pool))
    assert warmed(commands) == []
    assert any(isinstance(send.message, Retire) for send in of_type(commands, Send))


def busy(pool: PoolScript) -> int:
    """The slot that has a task."""
    return next(slot.index for slot in pool.core.worker_table if slot.task is not None)
