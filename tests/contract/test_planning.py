"""`Planner`: a pipeline is checked once, and its plan is cached by its types and its encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from offloop.errors import InvalidTask
from offloop.operation import Estimate, Header, Operation, Plugin
from offloop.plugins import Planner, Registry
from offloop.plugins.estimator import SourceHead


class Turn(Operation, frozen=True):
    degrees: Any = 90


class Twin(Operation, frozen=True, tag="Turn2"):
    degrees: Any = 90


class CountingPlugin(Plugin):
    name = "counting"
    operations = (Turn, Twin)
    processor = "this:Processor"

    def __init__(self) -> None:
        self.checked = 0

    def check(self, operations: Sequence[Operation]) -> None:
        self.checked += 1
        if len(operations) > 3:
            raise InvalidTask("too many turns")


@pytest.fixture
def planner() -> Planner:
    return Planner(Registry([CountingPlugin]), {"default": (CountingPlugin.name,)})


def checks(planner: Planner) -> int:
    plugin = planner._registry.plugins["counting"].plugin
    assert isinstance(plugin, CountingPlugin)
    return plugin.checked


def sent(planner: Planner, *operations: Operation) -> list[Any]:
    return [msgspec.msgpack.decode(stage.operations) for stage in planner.plan(operations).stages]


def test_equal_pipelines_are_checked_and_encoded_once(planner: Planner) -> None:
    first = planner.plan([Turn(1), Turn(2)])
    assert planner.plan([Turn(1), Turn(2)]) is first
    assert planner.plan(iter((Turn(1), Turn(2)))) is first
    assert checks(planner) == 1


def test_pipelines_that_differ_for_a_worker_have_different_plans(planner: Planner) -> None:
    for degrees in (1, 1.0, True, "1", [1]):
        ((turn,),) = sent(planner, Turn(degrees))
        assert type(turn[1]) is type(degrees)
    assert sent(planner, Twin(1)) == [[["Turn2", 1]]]
    assert sent(planner, Turn(1), Turn(2)) == [[["Turn", 1], ["Turn", 2]]]
    assert sent(planner, Turn(2), Turn(1)) == [[["Turn", 2], ["Turn", 1]]]


def test_an_operation_with_a_changed_mutable_value_is_planned_again(planner: Planner) -> None:
    degrees = [1]
    turn = Turn(degrees)
    sent(planner, turn)
    degrees.append(2)
    assert sent(planner, turn) == [[["Turn", [1, 2]]]]


class GuessingPlugin(CountingPlugin):
    name = "guessing"
    quick = True

    def probe(self, data: memoryview) -> Header:
        return Header(media_type="any", width=1, height=1)

    def estimate(self, header: Header | None, operations: Sequence[Any], nbytes: int) -> Estimate:
        return Estimate(peak_bytes=sum(operations[0].degrees), work_s=1.0)


def test_the_estimate_is_that_of_the_pipeline_that_runs_and_not_of_an_equal_one_that_was_changed_since() -> None:
    planner = Planner(Registry([GuessingPlugin]), {"default": (GuessingPlugin.name,)})
    degrees = [1]
    planner.plan([Turn(degrees)])
    degrees[0] = 1000
    estimator = planner.plan([Turn([1])]).estimator
    assert estimator is not None
    assert estimator.estimate([SourceHead(0, memoryview(b""))]) == (Estimate(peak_bytes=1, work_s=1.0), "any")


@pytest.mark.parametrize(
    "pipeline",
    [[], [5], ["Turn"], [Turn], [Turn(object())], [Turn("\ud800")], [Turn()] * 4],
    ids=["none", "number", "name", "type", "object", "text", "too-many"],
)
def test_an_invalid_pipeline_is_refused_each_time(planner: Planner, pipeline: list[Any]) -> None:
    for _ in range(2):
        with pytest.raises(InvalidTask):
            planner.plan(pipeline)


def test_a_single_operation_is_refused_with_how_to_write_it(planner: Planner) -> None:
    with pytest.raises(InvalidTask, match="write it as a list"):
        planner.plan(Turn())  # pyright: ignore[reportArgumentType]


def test_long_pipelines_and_the_oldest_pipelines_are_not_cached(planner: Planner) -> None:
    planner.plan([Turn("x" * 5000)])
    assert len(planner._plans) == 0
    for degrees in range(300):
        planner.plan([Turn(degrees)])
    assert len(planner._plans) == 256
    before = checks(planner)
    planner.plan([Turn(299)])
    assert checks(planner) == before
    planner.plan([Turn(0)])
    assert checks(planner) == before + 1


class Send(Operation, frozen=True):
    to: str
    data: bytes = b""

    def cost_kind(self) -> str:
        return self.to


class SendingPlugin(Plugin):
    name = "sending"
    operations = (Send,)
    processor = "this:Processor"
    probe_nbytes = 0

    def estimate(self, header: Header | None, operations: Sequence[Any], nbytes: int) -> Estimate:
        return Estimate(peak_bytes=len(operations[0].data))


def test_operations_with_data_of_one_task_are_of_one_kind_and_are_not_cached() -> None:
    planner = Planner(Registry([SendingPlugin]), {"default": (SendingPlugin.name,)})
    plans = [planner.plan([Send("a", data)]) for data in (b"1", b"2")]
    assert [plan.kind for plan in plans] == [(("sending", "a"),)] * 2
    assert planner.plan([Send("b")]).kind == (("sending", "b"),)
    assert len(planner._plans) == 0


def test_a_plugin_that_reads_no_source_estimates_once_when_the_pipeline_is_planned() -> None:
    plan = Planner(Registry([SendingPlugin]), {"default": (SendingPlugin.name,)}).plan([Send("a", b"12345")])
    assert plan.estimator is None
    assert plan.estimate == Estimate(peak_bytes=5)
