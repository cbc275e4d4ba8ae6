"""What a task is likely to cost."""

from __future__ import annotations

import msgspec
import pytest

from offloop.core.costs import CostModel
from offloop.core.tasks import TaskSpec
from offloop.wire.handles import INBOX, EncodedAt, Handle
from offloop.wire.messages import Stage

MIB = 1 << 20


def spec(nbytes: int = 0, operation: str = "Noop") -> TaskSpec:
    source = EncodedAt(Handle(INBOX, 0, nbytes, 1) if nbytes else None)
    stages = [Stage("faults", msgspec.Raw(msgspec.msgpack.encode([[operation]])))]
    return TaskSpec(source=source, stages=stages, timeout_s=None)


def test_before_anything_is_known_a_larger_source_costs_more() -> None:
    costs = CostModel()
    guesses = [costs.estimate_s(spec(nbytes)) for nbytes in (0, 50_000, MIB, 10 * MIB)]
    assert guesses == pytest.approx([0.005, 0.01, 0.11, 1.05], rel=0.01)


def test_the_first_task_of_a_kind_tells_what_the_next_will_cost() -> None:
    costs = CostModel()
    costs.learn(spec(MIB), 2.0)
    assert costs.estimate_s(spec(MIB)) == 2.0
    assert costs.estimate_s(spec(MIB + MIB // 2)) == 2.0, "about as long"
    assert costs.estimate_s(spec(4 * MIB)) == pytest.approx(0.42, rel=0.02)
    assert costs.estimate_s(spec(MIB, "Other")) == pytest.approx(0.11, rel=0.01)


def test_one_odd_task_does_not_change_the_mind_and_several_do() -> None:
    costs = CostModel()
    costs.learn(spec(MIB), 0.1)
    costs.learn(spec(MIB), 10.1)
    assert costs.estimate_s(spec(MIB)) == pytest.approx(2.6)
    for _ in range(20):
        costs.learn(spec(MIB), 10.1)
    assert costs.estimate_s(spec(MIB)) == pytest.approx(10.1, rel=0.01)


def test_what_costs_next_to_nothing_is_not_learned() -> None:
    costs = CostModel()
    costs.learn(spec(), 0.0009)
    assert len(costs) == 0


def test_that_a_large_source_costs_nothing_is_learned() -> None:
    costs = CostModel()
    costs.learn(spec(100 * MIB), 0.0005)
    assert costs.estimate_s(spec(100 * MIB)) == 0.0005


def test_of_more_kinds_than_are_remembered_the_least_recent_is_forgotten() -> None:
    costs = CostModel()
    for number in range(1025):
        costs.learn(spec(MIB, str(number)), 1.0)
    assert len(costs) == 1024
    assert costs.estimate_s(spec(MIB, "0")) != 1.0
    assert costs.estimate_s(spec(MIB, "1024")) == 1.0
