"""The fair queue: new tenants neither hold back the virtual time nor leave anything behind."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from offloop.core.scheduling.fair_queue import FairQueue


def serve_one_off_tenants(shares: FairQueue, tenants: int, *, at_once: int = 40, cost_s: float = 1.0) -> None:
    """So many tenants come once each, `at_once` of them waiting at a time."""
    waiting: deque[str] = deque()
    for number in range(tenants):
        shares.activate(name := f"new {number}")
        waiting.append(name)
        if len(waiting) == at_once:
            served = shares.next_tenant
            shares.charge(served, cost_s)
            shares.deactivate(served)
            assert served is not None
            waiting.remove(served)
    for _ in range(len(waiting)):
        served = shares.next_tenant
        shares.charge(served, cost_s)
        shares.deactivate(served)


@pytest.mark.parametrize("at_once", [1, 40])
def test_tenants_that_come_once_are_forgotten(at_once: int) -> None:
    shares = FairQueue()
    serve_one_off_tenants(shares, 5_000, at_once=at_once)
    assert len(shares._tags) <= 2 * at_once
    assert len(shares._inactive) <= 2 * at_once
    assert not shares._waiting


def test_a_tenant_that_comes_again_is_served_while_new_tenants_keep_coming() -> None:
    shares = FairQueue()
    shares.activate("again")
    shares.activate("other")
    shares.charge("again", 10.0)  # and it has another task waiting
    served: list[str | None] = []
    shares.activate("new 0")
    while "again" not in served and len(served) < 60:  # two are waiting beside it all the time
        served.append(shares.next_tenant)
        shares.charge(served[-1], 1.0)
        if served[-1] != "other":
            shares.deactivate(served[-1])
            shares.activate(f"new {len(served)}")
    assert served[-1] == "again"
    assert 10 <= len(served) <= 40, "it is due after about 20 s of their work"


def test_a_tenant_that_left_with_a_debt_waits_for_its_turn_and_not_for_ever() -> None:
    shares = FairQueue()
    shares.activate("again")
    shares.activate("other")
    shares.charge("again", 10.0)
    shares.deactivate("again")
    shares.activate("again")
    served: list[str | None] = []
    for number in range(60):
        shares.activate(f"new {number}")
        served.append(shares.next_tenant)
        shares.charge(served[-1], 1.0)
        shares.deactivate(served[-1])
        if served[-1] == "again":
            break
    assert served[0] == "other"
    assert served[-1] == "again"


def test_a_task_that_takes_longer_than_charged_is_a_debt_even_of_a_tenant_that_was_forgotten() -> None:
    shares = FairQueue()
    shares.activate("other")
    shares.activate("late")
    shares.charge("late", 0.1)
    shares.deactivate("late")
    shares.charge("other", 1.0)
    shares.charge("other", 1.0)
    assert list(shares._tags) == ["other"]
    shares.correct("late", 5.0)
    shares.activate("late")
    shares.activate("new")
    served: list[str | None] = []
    while "late" not in served:
        served.append(shares.next_tenant)
        shares.charge(served[-1], 1.0)
    assert served.count("other") >= 4
    assert served.count("new") >= 2


def test_a_task_that_takes_less_than_charged_gives_no_credit_beyond_the_virtual_time() -> None:
    shares = FairQueue()
    shares.activate("a")
    shares.activate("b")
    shares.charge("a", 10.0)
    shares.deactivate("a")
    for _ in range(30):
        shares.charge("b", 1.0)
    shares.activate("a")
    shares.correct("a", -9.0)
    served: Counter[str | None] = Counter()
    for _ in range(20):
        served[shares.next_tenant] += 1
        shares.charge(shares.next_tenant, 1.0)
    assert served["a"] in (9, 10, 11)


def test_tenants_that_keep_waiting_share_by_weight_whatever_their_tasks_cost() -> None:
    shares = FairQueue({"heavy": 3.0})
    for tenant in ("dear", "cheap", "heavy"):
        shares.activate(tenant)
    costs = {"dear": 5.0, "cheap": 0.1, "heavy": 1.0}
    spent: Counter[str] = Counter()
    while spent.total() < 500:
        tenant = shares.next_tenant
        assert tenant is not None
        shares.charge(tenant, costs[tenant])
        spent[tenant] += costs[tenant]  # pyright: ignore[reportArgumentType] (a Counter of seconds)
    assert spent["dear"] == pytest.approx(spent["cheap"], rel=0.06)
    assert spent["heavy"] == pytest.approx(3 * spent["cheap"], rel=0.06)


@pytest.mark.parametrize("wrong", [0.25, 1.0, 4.0])
def test_new_tenants_and_one_that_keeps_waiting_compete_on_equal_terms_however_wrong_the_charges_are(wrong: float) -> None:
    shares = FairQueue()
    shares.activate("keeps waiting")
    spent: Counter[str] = Counter()
    for number in range(2_000):  # one new tenant waits beside it at any time
        name = f"new {number}"
        shares.activate(name)
        while shares.next_tenant != name:
            shares.charge("keeps waiting", 1.0 * wrong)
            shares.correct("keeps waiting", 1.0 - wrong)
            spent["keeps waiting"] += 1
        shares.charge(name, 1.0 * wrong)
        shares.deactivate(name)
        shares.correct(name, 1.0 - wrong)
        spent["new"] += 1
    assert 0.6 <= spent["new"] / spent["keeps waiting"] <= 1.7
    assert len(shares._tags) <= 20
