"""`CoreDriver` carries out all commands of an event before the next one, and processes events in order of arrival."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from offloop import Pool
from offloop.core.model.events import TimePassed
from offloop.core.model.task import TaskSpec
from offloop.runtime.loop.futures import BlockFuture, OneShotEvent, TaskFuture
from offloop.runtime.supervisor import Supervisor
from offloop.testing.faults import Echo

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


def supervisor_of(pool: Pool) -> Supervisor:
    assert pool._supervisor is not None
    return pool._supervisor


async def test_events_caused_by_side_effects_are_processed_before_apply_returns(pool_of_one: Pool) -> None:
    supervisor = supervisor_of(pool_of_one)
    conditions, asked = supervisor.conditions, list[BlockFuture]()

    def ask_while_looking() -> None:  # as a signal handler or a finalizer may
        conditions.resized = {}
        del conditions.notify
        asked.append(supervisor.request_input(4096))
        supervisor.abandon_input(asked[0])
        asked.append(supervisor.request_input(4096))

    conditions.notify = ask_while_looking
    conditions.resized = {"default": OneShotEvent(supervisor.affinity.loop)}
    supervisor.apply(TimePassed())
    with anyio.fail_after(10):
        await asked[1].wait()
    supervisor.abandon_input(asked[1])
    assert bytes(await pool_of_one.run(b"abc", [Echo()])) == b"abc"


async def test_a_result_that_is_a_source_in_place_is_held_until_the_task_has_it(pool_of_one: Pool) -> None:
    first = await pool_of_one.run(bytes(10_000), [Echo()])
    supervisor = supervisor_of(pool_of_one)
    submit, outboxes = supervisor.submit, list[int | None]()

    def release_and_submit(task_id: int, spec: TaskSpec, nbytes: int, **keywords: Any) -> TaskFuture:
        thread = threading.Thread(target=first.data.release)  # views may be released in any thread, at any time
        thread.start()
        thread.join()
        outboxes.append(spec.outbox_id)
        return submit(task_id, spec, nbytes, **keywords)

    supervisor.submit = release_and_submit
    second = await pool_of_one.run(first, [Echo()])
    supervisor.submit = submit
    assert None not in outboxes, "it was a source in place"
    assert bytes(second) == bytes(10_000)
    assert bytes(await pool_of_one.run(b"abc", [Echo()])) == b"abc"
