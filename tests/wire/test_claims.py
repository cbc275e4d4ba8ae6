"""Claims: a run is begun by the worker or withdrawn by the supervisor, in each order of their steps."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from offloop.system.memory_barrier import execute_barrier, is_barrier_supported
from offloop.wire import claims
from offloop.wire.claims import claim_run, withdraw_runs


def yes() -> bool:
    return True


@pytest.fixture
def page() -> memoryview:
    return memoryview(bytearray(4096))


def test_a_run_that_is_not_withdrawn_may_run(page: memoryview) -> None:
    assert [claim_run(page, number) for number in (1, 2, 3)] == [True] * 3


def test_runs_without_a_number_may_run(page: memoryview) -> None:
    assert claim_run(page, 0)


def test_withdrawn_runs_may_not_run_and_later_ones_may(page: memoryview) -> None:
    assert claim_run(page, 4)
    assert withdraw_runs(page, 5, 6, yes) == 4
    assert [claim_run(page, number) for number in (5, 6, 7)] == [False, False, True]


def test_the_supervisor_sees_the_run_that_was_begun_before(page: memoryview) -> None:
    assert claim_run(page, 5)
    assert withdraw_runs(page, 5, 6, yes) == 5


def test_without_a_barrier_no_run_counts_as_withdrawn(page: memoryview) -> None:
    assert withdraw_runs(page, 5, 6, lambda: False) == 6


class Interleaved(struct.Struct):
    """A struct of which each access is a step, before which another thread may do steps of its own."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__("Q")
        self._before = before

    def pack_into(self, buffer: Any, offset: int, *values: Any) -> None:
        self._before()
        super().pack_into(buffer, offset, *values)

    def unpack_from(self, buffer: Any, offset: int = 0) -> tuple[int, ...]:
        self._before()
        return super().unpack_from(buffer, offset)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_whenever_the_supervisor_withdraws_a_run_is_begun_or_withdrawn(
    page: memoryview, monkeypatch: pytest.MonkeyPatch, at: int, number: int
) -> None:
    """Runs 5 and 6 are withdrawn in the step `at` of the worker's claim on a run. Runs 2 and 3 were withdrawn before."""
    withdraw_runs(page, 2, 3, yes)
    claim_run(page, number - 1) if number != 4 else None
    step, seen = 0, list[int]()
    plain = struct.Struct("Q")

    def before() -> None:
        nonlocal step
        if step == at:
            monkeypatch.setattr(claims, "_word", plain)
            seen.append(withdraw_runs(page, 5, 6, yes))
            monkeypatch.setattr(claims, "_word", interleaved)
        step += 1

    interleaved = Interleaved(before)
    monkeypatch.setattr(claims, "_word", interleaved)
    may_run = claim_run(page, number)
    monkeypatch.setattr(claims, "_word", plain)
    begun = seen[0] if seen else withdraw_runs(page, 5, 6, yes)
    assert may_run or begun >= number or number in (5, 6)
    assert not may_run or begun >= number or number not in (5, 6)
    assert may_run or number in (5, 6), "a run that nothing withdraws may run"


@pytest.mark.skipif(not is_barrier_supported(), reason="this kernel has no global expedited membarrier")
def test_the_barrier_can_be_executed() -> None:
    assert execute_barrier()
