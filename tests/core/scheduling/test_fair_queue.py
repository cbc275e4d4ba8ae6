"""Fair queue: new tenants neither delay the virtual time nor leave tags behind."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from offloop.core.scheduling.fair_queue import FairQueue


def serve_one_off_tenants(queue: FairQueue, tenants: int, *, at_once: int = 40, cost_s: float = 1.0) -> None:
    """So many tenants have one task each; `at_once` of them wait at a time."""
    waiting: deque[str] = deque()
    for number in range(tenants):
        queue.activate(name := f"new {number}")
        waiting.append(name)
        if len(waiting) == at_once:
            served = queue.next_tenant
            queue.charge(served, cost_s)
            queue.deactivate(served)
            assert served is not None
            waiting.remove(served)
    for _ in range(len(waiting)):
        served = queue.next_tenant
        queue.charge(served, cost_s)
        queue.deactivate(served)


@pytest.mark.parametrize("at_once", [1, 40])
def test_tenants_that_come_once_are_forgotten(at_once: int) -> None:
    queue = FairQueue()
    serve_one_off_tenants(queue, 5_000, at_once=at_once)
    assert len(queue._tags) <= 2 * at_once
    assert len(queue._inactive) <= 2 * at_once
    assert not queue._waiting


def test_a_tenant_that_comes_again_is_served_while_new_tenants_keep_coming() -> None:
    queue = FairQueue()
    queue.activate("again")
    queue.activate("other")
    queue.charge("again", 10.0)  # and it has another task waiting
    served: list[str | None] = []
    queue.activate("new 0")
    while "again" not in served and len(served) < 60:  # two are waiting beside it all the time
        served.append(queue.next_tenant)
        queue.charge(served[-1], 1.0)
        if served[-1] != "other":
            queue.deactivate(served[-1])
            queue.activate(f"new {len(served)}")
    assert served[-1] == "again"
    assert 10 <= len(served) <= 40, "it is due after about 20 s of their work"


def test_a_tenant_that_left_with_a_debt_waits_for_a_bounded_time() -> None:
    queue = FairQueue()
    queue.activate("again")
    queue.activate("other")
    queue.charge("again", 10.0)
    queue.deactivate("again")
    queue.activate("again")
    served: list[str | None] = []
    for number in range(60):
        queue.activate(f"new {number}")
        served.append(queue.next_tenant)
        queue.charge(served[-1], 1.0)
        queue.deactivate(served[-1])
        if served[-1] == "again":
            break
    assert served[0] == "other"
    assert served[-1] == "again"


def test_a_task_that_takes_longer_than_charged_is_a_debt_even_of_a_tenant_that_was_forgotten() -> None:
    queue = FairQueue()
    queue.activate("other")
    queue.activate("late")
    queue.charge("late", 0.1)
    queue.deactivate("late")
    queue.charge("other", 1.0)
    queue.charge("other", 1.0)
    assert list(queue._tags) == ["other"]
    queue.correct("late", 5.0)
    queue.activate("late")
    queue.activate("new")
    served: list[str | None] = []
    while "late" not in served:
        served.append(queue.next_tenant)
        queue.charge(served[-1], 1.0)
    assert served.count("other") >= 4
    assert served.count("new") >= 2


def test_a_task_that_takes_less_than_charged_gives_no_credit_beyond_the_virtual_time() -> None:
    queue = FairQueue()
    queue.activate("a")
    queue.activate("b")
    queue.charge("a", 10.0)
    queue.deactivate("a")
    for _ in range(30):
        queue.charge("b", 1.0)
    queue.activate("a")
    queue.correct("a", -9.0)
    served: Counter[str | None] = Counter()
    for _ in range(20):
        served[queue.next_tenant] += 1
        queue.charge(queue.next_tenant, 1.0)
    assert served["a"] in (9, 10, 11)


def test_tenants_that_always_have_waiting_tasks_share_by_weight_at_any_cost_of_their_tasks() -> None:
    queue = FairQueue({"heavy": 3.0})
    for tenant in ("dear", "cheap", "heavy"):
        queue.activate(tenant)
    costs = {"dear": 5.0, "cheap": 0.1, "heavy": 1.0}
    spent: Counter[str] = Counter()
    while spent.total() < 500:
        tenant = queue.next_tenant
        assert tenant is not None
        queue.charge(tenant, costs[tenant])
        spent[tenant] += costs[tenant]  # pyright: ignore[reportArgumentType] (a Counter of seconds)
    assert spent["dear"] == pytest.approx(spent["cheap"], rel=0.06)
    assert spent["heavy"] == pytest.approx(3 * spent["cheap"], rel=0.06)


@pytest.mark.parametrize("wrong", [0.25, 1.0, 4.0])
def test_new_tenants_and_a_tenant_that_always_waits_have_equal_shares_however_wrong_the_charges_are(wrong: float) -> None:
    queue = FairQueue()
    queue.activate("keeps waiting")
    spent: Counter[str] = Counter()
    for number in range(2_000):  # one new tenant waits beside it at any time
        name = f"new {number}"
        queue.activate(name)
        while queue.next_tenant != name:
            queue.charge("keeps waiting", 1.0 * wrong)
            queue.correct("keeps waiting", 1.0 - wrong)
            spent["keeps waiting"] += 1
        queue.charge(name, 1.0 * wrong)
        queue.deactivate(name)
        queue.correct(name, 1.0 - wrong)
        spent["new"] += 1
    assert 0.6 <= spent["new"] / spent["keeps waiting"] <= 1.7
    assert len(queue._tags) <= 20
