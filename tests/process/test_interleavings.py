"""Interleavings of events in one loop iteration: returned memory, a cancellation, a time-out, a close."""

from __future__ import annotations

from functools import partial
from itertools import product
from operator import add
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from interleaving import Action, Program, Turn, Verb, play

from offloop import MemoryLimitExceeded
from offloop.testing import scripted_pool
from offloop.testing.faults import FaultsPlugin

pytestmark = pytest.mark.every_loop

STARTS: tuple[Verb, ...] = ("buffer", "ready", "receive", "stall", "answer", "timed")
ENDS: tuple[Verb, ...] = ("cancel", "release", "time out", "drain", "close")


def programs_of_two_ends() -> list[Program]:
    """One caller has the memory that the other one waits for; both leave, in each order, in the same turn or in the next."""
    programs: list[Program] = []
    for first, second, order, iterations in product(STARTS, STARTS, (0, 1), (0, 1)):
        ends = [(Action(0, "release"), Action(0, "cancel")), (Action(1, "time out"), Action(1, "cancel"), Action(1, "release"))]
        turns = [
            Turn((Action(0, first),)),
            Turn((Action(1, second),)),
            Turn(ends[order], iterations),
            Turn(ends[1 - order], iterations),
        ]
        programs.append(Program(tuple(turns)))
    return programs


def programs_of_an_end_and_the_close() -> list[Program]:
    """The pool is closed, or drained without patience, just before or after a caller leaves."""
    return [
        Program((Turn((Action(0, first), Action(1, second))), Turn(actions, 0)))
        for first, second, end in product(STARTS, STARTS, ("drain", "close"))
        for actions in (
            (Action(0, end), Action(0, "release"), Action(1, "cancel")),
            (Action(0, "release"), Action(1, "cancel"), Action(0, end)),
        )
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("programs", [programs_of_two_ends, programs_of_an_end_and_the_close])
async def test_two_cancellations_in_one_loop_iteration_leave_a_working_pool(programs: Any, anyio_backend: object) -> None:
    for program in programs():
        try:
            await play(program)
        except BaseException as error:
            error.add_note(repr(program))
            raise


@pytest.mark.anyio
async def test_a_buffer_whose_view_was_taken_too_early_can_still_be_waited_for(anyio_backend: object) -> None:
    async with scripted_pool([], plugins=[FaultsPlugin], memory_limit="1MiB") as pool:
        held, waiting = pool.buffer(500_000), pool.buffer(500_000)
        assert held.view.nbytes == 500_000
        with pytest.raises(MemoryLimitExceeded):
            waiting.view  # noqa: B018 (a property that raises)
        del held
        with anyio.fail_after(10):
            assert (await waiting.ready()).view.nbytes == 500_000


actions = st.builds(Action, st.integers(0, 1), st.sampled_from(STARTS + ENDS[:-1]))
turns = st.builds(Turn, st.lists(actions, min_size=1, max_size=4).map(tuple), st.sampled_from([0, 0, 1, 2, 5, None]))
last_turns = st.sampled_from([(), (Turn((Action(0, "close"),)),)])
programs = st.builds(
    Program,
    st.builds(add, st.lists(turns, min_size=2, max_size=8).map(tuple), last_turns),
    st.sampled_from(["small", "small", "large"]),
)


@given(program=programs)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_callers_in_any_order_of_actions_keep_the_invariants(program: Program, anyio_backend: Any) -> None:
    backend, options = anyio_backend
    note(repr(program))
    anyio.run(partial(play, program), backend=backend, backend_options=options)
