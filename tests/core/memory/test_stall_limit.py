"""Stall limit: how long a request waits for memory that only callers can release."""

from __future__ import annotations

from offloop.core.memory.stall_limit import MEMORY_WAIT_S, StallLimit


def test_a_wait_ends_after_the_limit() -> None:
    assert StallLimit().ends_at(5.0, 0.0) == 5.0 + MEMORY_WAIT_S


def test_memory_that_comes_back_starts_the_limit_anew() -> None:
    stall = StallLimit()
    stall.moved_at = 9.0
    assert stall.ends_at(5.0, 0.0) == 9.0 + MEMORY_WAIT_S


def test_once_given_up_tasks_that_were_submitted_before_do_not_wait_as_long_again() -> None:
    stall = StallLimit()
    stall.request_failed(40.0)
    assert stall.ends_at(41.0, 39.0) < 41.0
    assert stall.ends_at(41.0, 41.0) == 41.0 + MEMORY_WAIT_S, "a later request has the whole limit"
    stall.moved_at = 42.0
    assert stall.ends_at(43.0, 39.0) == 43.0 + MEMORY_WAIT_S


def test_the_limit_does_not_run_while_the_pools_own_tasks_may_give_memory_back() -> None:
    stall = StallLimit()
    stall.note_help(5.0, pool_can_help=True)
    stall.note_help(50.0, pool_can_help=False)
    assert stall.ends_at(5.0, 0.0) == 50.0 + MEMORY_WAIT_S
    stall.note_help(60.0, pool_can_help=False)
    assert stall.ends_at(5.0, 0.0) == 50.0 + MEMORY_WAIT_S
