"""Stall limit: how long a request waits for memory that only callers can release."""

from __future__ import annotations

from offloop.core.memory.stall_limit import MEMORY_WAIT_S, StallLimit


def test_a_wait_ends_after_the_limit() -> None:
    stall = StallLimit()
    assert stall.ends_at(stall.begin(5.0), 0.0) == 5.0 + MEMORY_WAIT_S


def test_memory_that_comes_back_starts_the_limit_anew() -> None:
    stall = StallLimit()
    since = stall.begin(5.0)
    stall.moved_at = 9.0
    assert stall.ends_at(since, 0.0) == 9.0 + MEMORY_WAIT_S


def test_once_given_up_tasks_that_were_submitted_before_do_not_wait_as_long_again() -> None:
    stall = StallLimit()
    stall.request_failed(40.0)
    assert stall.ends_at(stall.begin(41.0), 39.0) < 41.0
    assert stall.ends_at(stall.begin(41.0), 41.0) == 41.0 + MEMORY_WAIT_S, "a later request has the whole limit"
    stall.moved_at = 42.0
    assert stall.ends_at(stall.begin(43.0), 39.0) == 43.0 + MEMORY_WAIT_S


def test_the_limit_stands_still_while_the_pools_own_tasks_may_give_memory_back() -> None:
    stall = StallLimit()
    since = stall.begin(5.0)
    stall.note_help(5.0, pool_can_help=False)
    stall.note_help(10.0, pool_can_help=True)
    stall.note_help(30.0, pool_can_help=True)
    stall.note_help(50.0, pool_can_help=False)
    assert stall.ends_at(since, 0.0) == 45.0 + MEMORY_WAIT_S, "5 of 45 seconds count"
    stall.note_help(60.0, pool_can_help=False)
    assert stall.ends_at(since, 0.0) == 45.0 + MEMORY_WAIT_S


def test_a_wait_that_begins_while_the_limit_stands_still_has_the_rest_of_that_time_beside_the_limit() -> None:
    stall = StallLimit()
    stall.note_help(0.0, pool_can_help=True)
    since = stall.begin(15.0)
    stall.note_help(20.0, pool_can_help=False)
    assert stall.ends_at(since, 0.0) == 20.0 + MEMORY_WAIT_S


def test_memory_that_comes_back_while_the_limit_stands_still_starts_it_anew() -> None:
    stall = StallLimit()
    since = stall.begin(0.0)
    stall.note_help(10.0, pool_can_help=True)
    stall.moved_at = 12.0
    stall.note_help(15.0, pool_can_help=False)
    assert stall.ends_at(since, 0.0) == 15.0 + MEMORY_WAIT_S


def test_only_the_help_after_the_last_move_extends_the_limit() -> None:
    stall = StallLimit()
    since = stall.begin(0.0)
    stall.note_help(0.0, pool_can_help=True)
    stall.note_help(10.0, pool_can_help=False)
    stall.moved_at = 12.0
    assert stall.ends_at(since, 0.0) == 12.0 + MEMORY_WAIT_S
    stall.note_help(20.0, pool_can_help=True)
    stall.note_help(21.0, pool_can_help=False)
    assert stall.ends_at(since, 0.0) == 13.0 + MEMORY_WAIT_S
