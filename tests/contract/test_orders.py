"""Orders of `offloop.testing`: valid text is parsed, and invalid text is refused with the list of faults and points."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from offloop import InvalidTask
from offloop.testing import Fault, FaultyStarts, Order, OrderError, Point


@pytest.mark.parametrize(
    ("text", "order"),
    [
        (b"exit 42 at mid-pixels", Order(Fault.EXIT, Point.MID_PIXELS, 42)),
        ("SIGKILL at reply byte 1", Order(Fault.SIGNAL, Point.REPLY_BYTE_1, signal.SIGKILL.value)),
        ("hang at while-granted", Order(Fault.HANG, Point.WHILE_GRANTED)),
        ("  stop at Idle\n", Order(Fault.STOP, Point.IDLE)),
        ("exit 0 at starting", Order(Fault.EXIT, Point.STARTING, 0)),
    ],
)
def test_an_order_is_a_fault_at_a_point(text: str | bytes, order: Order) -> None:
    assert Order.parse(text) == order


@pytest.mark.parametrize("point", list(Point), ids=lambda point: point.value)
@pytest.mark.parametrize("fault", ["exit 255", "SIGSEGV", "stop", "hang", "spin", "close", "garbage"])
def test_the_text_of_an_order_is_parsed_to_the_same_order(fault: str, point: Point) -> None:
    text = f"{fault} at {point.value}"
    assert str(Order.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ("", 'no " at "'),
        ("exit 42", 'no " at "'),
        ("exit at idle", "an exit code is a number from 0 to 255, not ''"),
        ("exit 256 at idle", "not '256'"),
        ("exit -1 at idle", "not '-1'"),
        ("SIGNOTHING at idle", "no fault 'SIGNOTHING'"),
        ("hang 3 at idle", "no fault 'hang 3'"),
        ("hang at lunch", "no point 'lunch'"),
        (b"\xff at idle", r"no fault '\\\\xff'"),
    ],
)
def test_an_invalid_order_is_refused_with_all_faults_and_points(text: str | bytes, objection: str) -> None:
    with pytest.raises(OrderError) as refused:
        Order.parse(text)
    assert isinstance(refused.value, InvalidTask)
    assert objection.replace(r"\\\\", r"\\") in str(refused.value)
    for word in ("exit CODE", "SIGKILL", "stop", "hang", "spin", "close", "garbage", *(point.value for point in Point)):
        assert word in str(refused.value)


def test_the_docs_list_every_point_and_every_fault() -> None:
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    words = [point.value for point in Point] + [fault.value for fault in Fault if fault not in (Fault.EXIT, Fault.SIGNAL)]
    assert [word for word in words if f"`{word}`" not in text] == []


@pytest.mark.parametrize(
    ("order", "objection"),
    [
        ("stop at idle", "the only point of a start"),
        ("exit 3 at starting", "from outside"),
        ("hang at starting", "from outside"),
    ],
)
def test_a_fault_of_a_start_can_only_come_from_outside(order: str, objection: str) -> None:
    with pytest.raises(OrderError, match=objection):
        FaultyStarts(None, order)
