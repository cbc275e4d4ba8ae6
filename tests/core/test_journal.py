"""What is written down, and for whom."""

from __future__ import annotations

from offloop.core.telemetry.event_log import Journal
from offloop.pool_events import BreakerMoved, TaskRetried

STEP = TaskRetried(at=1.0, task_id=1, deaths=1)
NEWS = BreakerMoved(at=2.0, before="closed", after="open")


def test_steps_are_written_down_only_while_somebody_watches() -> None:
    journal = Journal()
    journal.enter(STEP)
    assert journal.take() == []
    journal.watched = True
    journal.enter(STEP)
    assert journal.take() == [STEP]


def test_what_goes_into_the_log_is_always_written_down() -> None:
    journal = Journal()
    journal.report(NEWS)
    assert journal.take() == [NEWS]


def test_what_was_read_is_not_told_again_and_the_order_stays() -> None:
    journal = Journal()
    journal.watched = True
    journal.enter(STEP)
    journal.report(NEWS)
    entries = journal.take()
    assert entries == [STEP, NEWS]
    journal.enter(STEP)
    assert entries == [STEP, NEWS], "what was taken is the reader's own"
    assert journal.take() == [STEP]
