"""Event log: which events are recorded, and when."""

from __future__ import annotations

from offloop.core.telemetry.event_log import EventLog
from offloop.pool_events import BreakerMoved, TaskRetried

STEP = TaskRetried(at=1.0, task_id=1, deaths=1, dispatched_at=0.0)
NEWS = BreakerMoved(at=2.0, group="default", before="closed", after="open")


def test_steps_are_recorded_only_while_there_is_a_subscriber() -> None:
    event_log = EventLog()
    event_log.append_if_watched(STEP)
    assert event_log.drain() == []
    event_log.has_subscribers = True
    event_log.append_if_watched(STEP)
    assert event_log.drain() == [STEP]


def test_rare_events_are_always_recorded() -> None:
    event_log = EventLog()
    event_log.append(NEWS)
    assert event_log.drain() == [NEWS]


def test_drained_events_are_not_returned_again_and_the_order_stays() -> None:
    event_log = EventLog()
    event_log.has_subscribers = True
    event_log.append_if_watched(STEP)
    event_log.append(NEWS)
    entries = event_log.drain()
    assert entries == [STEP, NEWS]
    event_log.append_if_watched(STEP)
    assert entries == [STEP, NEWS], "a drained list does not change later"
    assert event_log.drain() == [STEP]
