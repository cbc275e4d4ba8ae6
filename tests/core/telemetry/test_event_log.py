"""What is written down, and for whom."""

from __future__ import annotations

from offloop.core.telemetry.event_log import EventLog
from offloop.pool_events import BreakerMoved, TaskRetried

STEP = TaskRetried(at=1.0, task_id=1, deaths=1)
NEWS = BreakerMoved(at=2.0, before="closed", after="open")


def test_steps_are_written_down_only_while_somebody_watches() -> None:
    event_log = EventLog()
    event_log.append_if_watched(STEP)
    assert event_log.drain() == []
    event_log.has_subscribers = True
    event_log.append_if_watched(STEP)
    assert event_log.drain() == [STEP]


def test_what_goes_into_the_log_is_always_written_down() -> None:
    event_log = EventLog()
    event_log.append(NEWS)
    assert event_log.drain() == [NEWS]


def test_what_was_read_is_not_told_again_and_the_order_stays() -> None:
    event_log = EventLog()
    event_log.has_subscribers = True
    event_log.append_if_watched(STEP)
    event_log.append(NEWS)
    entries = event_log.drain()
    assert entries == [STEP, NEWS]
    event_log.append_if_watched(STEP)
    assert entries == [STEP, NEWS], "what was taken is the reader's own"
    assert event_log.drain() == [STEP]
