"""No task is overtaken for ever: a stream of small tasks with wrong estimates, and one task that needs most of the memory."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.core.model.commands import ReservePages, Send, SettleTask
from offloop.core.model.events import PagesRefused, PoolStarted, TaskSubmitted, WorkerReported, WorkerSpawned
from offloop.core.model.settings import CoreSettings, GroupSettings
from offloop.core.model.task import TaskSpec
from offloop.core.pool_state import PoolState
from offloop.core.scheduling.backfill import RESERVATION_S
from offloop.core.scheduling.overtaking import overtaking_limit_s
from offloop.operation import Estimate
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Done, Loading, Ready, Run

from ..core.pool_script import MIB, PLENTY, STAGES

LIMIT = 512 * MIB
WORKER = 32 * MIB


class Simulation:
    """A pool whose tasks take the given times. The clock jumps from event to event."""

    def __init__(self, workers: int, **more: Any) -> None:
        self.core = PoolState(
            CoreSettings(
                groups=(GroupSettings(workers=workers),),
                limit_bytes=LIMIT,
                inbox_nbytes=LIMIT // 2,
                budget_bytes=LIMIT,
                max_queue=None,
                grace_s=1.0,
                start_timeout_s=10.0,
                **more,
            )
        )
        self.now = 0.0
        self.takes_s: dict[int, float] = {}
        self.running: dict[int, tuple[float, int]] = {}  # by slot: end time and task id
        self.started_at: dict[int, float] = {}
        self.carry_out(self.core.handle(PoolStarted(), 0.0))
        for slot in self.core.worker_table:
            self.handle(WorkerSpawned(slot.index, None))
            self.handle(WorkerReported(slot.index, Loading(1)))
            self.handle(WorkerReported(slot.index, Ready(1)))

    def handle(self, event: Any) -> None:
        self.carry_out(self.core.handle(event, self.now))

    def carry_out(self, commands: list[Any]) -> None:
        for command in commands:
            match command:
                case Send(slot, Run(task_id)):
                    self.running[slot] = self.now + self.takes_s[task_id], task_id
                    self.started_at[task_id] = self.now
                case ReservePages(reservation):
                    self.handle(PagesRefused(reservation, PLENTY))
                case SettleTask(task_id):
                    assert task_id in self.started_at
                case _:
                    pass

    def submit(self, task_id: int, peak_bytes: int, work_s: float, takes_s: float, tenant: str | None = None) -> None:
        self.takes_s[task_id] = takes_s
        estimate = Estimate(peak_bytes=peak_bytes, work_s=work_s)
        stages = STAGES if takes_s == work_s else [STAGES[0], STAGES[0]]  # another kind, so that its cost is learned separately
        spec = TaskSpec(sources=(EncodedAt(None),), stages=stages, timeout_s=None, estimate=estimate, tenant=tenant)
        self.handle(TaskSubmitted(task_id, spec))

    def advance_to(self, now: float) -> None:
        """Advance the clock; the workers whose tasks end by then answer."""
        while self.running and (first := min(self.running.items(), key=lambda item: item[1]))[1][0] <= now:
            slot, (self.now, task_id) = first
            del self.running[slot]
            self.handle(WorkerReported(slot, Done(task_id, EncodedAt(None), {}, 1, 2, WORKER)))
        self.now = now


@pytest.mark.timeout(300)  # a long simulation, on a machine that may be busy
@settings(max_examples=40, deadline=None)
@given(
    workers=st.integers(2, 6),
    large_s=st.sampled_from([0.1, 1.0, 5.0]),
    small_mib=st.sampled_from([10, 60, 120]),
    estimated_s=st.sampled_from([0.01, 0.1, 0.5]),
    wrong=st.sampled_from([1.0, 1.0, 20.0]),
    tenants=st.booleans(),
)
def test_a_large_task_is_not_overtaken_for_ever(
    workers: int, large_s: float, small_mib: int, estimated_s: float, wrong: float, tenants: bool
) -> None:
    pool = Simulation(workers)
    takes_s = estimated_s * wrong
    at_once = max(min(workers, (LIMIT - workers * WORKER) // (small_mib * MIB)), 1)
    every_s = takes_s / at_once / 1.5  # half as many again as the workers can run
    numbers = iter(range(1, 1_000_000))
    for _ in range(3 * workers):
        pool.submit(next(numbers), small_mib * MIB, estimated_s, takes_s)
    large = 1_000_001
    room = LIMIT - workers * WORKER
    pool.submit(large, room - 20 * MIB, large_s, large_s, "large" if tenants else None)
    # tasks before it and shortly after, by rank; then running tasks by their estimates; then only tasks beside it
    ahead_s = overtaking_limit_s(large_s) * workers / at_once * 1.5 + 3 * takes_s + 1.0
    bound = 2 * (ahead_s + RESERVATION_S + takes_s * workers)
    when = 0.0
    while large not in pool.started_at and when < bound:
        when += every_s
        pool.advance_to(when)
        pool.submit(next(numbers), small_mib * MIB, estimated_s, takes_s)
    assert large in pool.started_at


@settings(max_examples=30, deadline=None)
@given(workers=st.integers(1, 4), weight=st.sampled_from([1.0, 3.0]), peaks=st.tuples(*[st.sampled_from([5, 60, 150])] * 2))
def test_tenants_that_compete_for_memory_and_workers_get_their_shares(
    workers: int, weight: float, peaks: tuple[int, int]
) -> None:
    pool = Simulation(workers, tenant_weights={"b": weight})
    number = 0
    cost = {"a": 0.05, "b": 0.15}
    of: dict[int, str] = {}
    for tenant, peak in zip("ab", peaks, strict=True):
        for _ in range(400):
            number += 1
            of[number] = tenant
            pool.submit(number, peak * MIB, cost[tenant], cost[tenant], tenant)
    pool.advance_to(4.0)
    used: dict[str, float] = defaultdict(float)
    for task_id in pool.started_at:
        used[of[task_id]] += cost[of[task_id]]
    turns = 2 * max(cost["b"], 0.05 * weight) + cost["b"] * workers
    if peaks[0] == peaks[1]:
        assert abs(used["a"] * weight - used["b"]) <= turns * (1 + weight)
    assert min(used["a"] * weight, used["b"]) >= 0.9 * 4.0 / (1 + weight) - turns
