"""`SchedulingPolicy` for any trace: no task starves, no worker is idle while a task waits, and shares are fair."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.scheduling.overtaking import overtaking_limit_s
from offloop.core.scheduling.policy import PRIORITY_HEAD_START_S, SchedulingPolicy
from offloop.wire.handles import EncodedAt


class Arrival(msgspec.Struct, frozen=True):
    """Arrival of a task: seconds after the previous one, cost, tenant and priority class."""

    after_s: float
    cost_s: float
    tenant: str
    priority: int = 0


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        st.sampled_from([0.0, 0.0, 0.01, 1.0, 20.0]),
        st.sampled_from([0.001, 0.01, 0.1, 1.0, 30.0]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(-2, 2),
    ),
    min_size=1,
    max_size=60,
)


def popped(order: SchedulingPolicy) -> TaskRecord:
    task = order.first()
    order.start(task)
    return task


def records(arrivals: list[Arrival]) -> list[TaskRecord]:
    now = 0.0
    found: list[TaskRecord] = []
    for number, arrival in enumerate(arrivals):
        now += arrival.after_s
        spec = TaskSpec(sources=(EncodedAt(None),), stages=[], timeout_s=None, priority=arrival.priority, tenant=arrival.tenant)
        place_s = now + overtaking_limit_s(arrival.cost_s)  # on a work clock that runs as fast as time
        record = TaskRecord(number, now, spec)
        record.cost_s, record.place_s = arrival.cost_s, place_s
        found.append(record)
    return found


def of(task: TaskRecord) -> TaskSpec:
    return task.spec


@given(ARRIVALS)
@settings(deadline=None)
def test_one_worker_runs_every_task_once_and_is_never_idle_while_a_task_waits(arrivals: list[Arrival]) -> None:
    order, coming, now = SchedulingPolicy(), records(arrivals), 0.0
    served: list[int] = []
    while coming or order:
        while coming and coming[0].submitted_at <= now:
            order.add(coming.pop(0))
        if not order:
            now = coming[0].submitted_at
            continue
        task = popped(order)
        served.append(task.task_id)
        now += task.cost_s
    assert sorted(served) == list(range(len(arrivals)))


@given(ARRIVALS)
@settings(deadline=None)
def test_within_a_tenant_no_task_is_overtaken_by_one_that_arrived_after_its_overtaking_limit(arrivals: list[Arrival]) -> None:
    order = SchedulingPolicy()
    tasks = records(arrivals)
    for task in tasks:
        order.add(task)
    place = {popped(order).task_id: index for index in range(len(tasks))}
    for waiting in tasks:
        for later in tasks:
            if of(later).tenant != of(waiting).tenant or place[later.task_id] > place[waiting.task_id]:
                continue
            head_start = max(of(later).priority - of(waiting).priority, 0) * PRIORITY_HEAD_START_S
            assert later.submitted_at <= waiting.submitted_at + overtaking_limit_s(waiting.cost_s) + head_start


@given(
    st.lists(st.tuples(st.sampled_from([0.01, 0.1, 1.0]), st.sampled_from(["a", "b", "c"])), min_size=3, max_size=80),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from([0.5, 1.0, 2.0, 4.0])),
)
@settings(deadline=None)
def test_while_tenants_compete_no_share_is_off_by_more_than_a_turn_and_the_most_expensive_task(
    tasks: list[tuple[float, str]], weights: dict[str, float]
) -> None:
    order = SchedulingPolicy(weights)
    for task in records([Arrival(0.0, cost_s, tenant) for cost_s, tenant in tasks]):
        order.add(task)
    max_cost_s = max(cost_s for cost_s, _ in tasks)
    spent: dict[str, float] = defaultdict(float)
    competing = set(order.waiting)
    while set(order.waiting) == competing:
        task = popped(order)
        tenant = of(task).tenant
        assert tenant is not None
        spent[tenant] += task.cost_s
    shares = sorted(spent[tenant] / weights.get(tenant, 1.0) for tenant in competing)
    min_weight = min(weights.get(tenant, 1.0) for tenant in competing)
    for less, more in pairwise(shares):
        assert more - less <= 2 * (max_cost_s / min_weight + 0.05)


@given(ARRIVALS, st.lists(st.integers(0, 59), max_size=30))
@settings(deadline=None)
def test_removed_tasks_are_gone_and_the_others_are_not(arrivals: list[Arrival], removed: list[int]) -> None:
    order = SchedulingPolicy()
    tasks = records(arrivals)
    for task in tasks:
        order.add(task)
    gone = {task.task_id for task in tasks if task.task_id in removed}
    for task in tasks:
        if task.task_id in gone:
            order.remove(task)
    assert gone == set(removed) & {task.task_id for task in tasks}
    assert sum(order.waiting.values()) == len(order) == len(tasks) - len(gone)
    assert {popped(order).task_id for _ in range(len(order))} == {task.task_id for task in tasks} - gone
