"""What a group's workers report about their sandbox, and which of them may run tasks."""

from __future__ import annotations

from offloop.core.telemetry.event_log import EventLog
from offloop.core.workers.sandbox_reports import SandboxReports
from offloop.pool_events import SandboxReported
from offloop.sandbox import LAYERS, Posture, SandboxMode

COMPLETE = Posture(mode="strict", landlock_abi=7, landlock_scope=("files",), landlock_stages=2)


def reports(mode: SandboxMode) -> tuple[SandboxReports, EventLog]:
    log = EventLog()
    return SandboxReports("default", mode, log), log


def test_auto_and_off_accept_any_posture() -> None:
    for mode in ("auto", "off"):
        for posture in (None, COMPLETE, Posture(mode="auto", missing={"seccomp": "old"})):
            assert reports(mode)[0].find_objection(posture) is None


def test_strict_accepts_a_complete_posture_only() -> None:
    group, _ = reports("strict")
    assert group.find_objection(COMPLETE) is None
    text = "sandbox='strict', and its sandbox lacks: seccomp (no table); landlock (\\x1b none)"
    incomplete = Posture(mode="strict", missing={"seccomp": "no table", "landlock": "\x1b none"})
    assert group.find_objection(incomplete) == text


def test_strict_refuses_a_worker_that_reports_nothing_or_another_mode() -> None:
    group, _ = reports("strict")
    for posture in (None, Posture(mode="auto"), Posture(mode="off")):
        objection = group.find_objection(posture)
        assert objection is not None
        assert all(layer in objection for layer in LAYERS)


def test_each_change_of_the_posture_is_one_event() -> None:
    group, log = reports("auto")
    old = Posture(mode="auto", missing={"landlock": "none\n\x1b[31m"})
    for posture in (None, old, old, COMPLETE, COMPLETE, None):
        group.on_worker_ready(posture, 0.0)
    events = [event for event in log.drain() if isinstance(event, SandboxReported)]
    assert [event.posture.mode for event in events] == ["auto", "strict"]
    assert events[0].posture.missing == {"landlock": "none\n\\x1b[31m"}
    assert group.posture == COMPLETE


def test_a_posture_is_one_readable_line() -> None:
    assert str(Posture(mode="off")) == "off"
    assert str(COMPLETE) == "strict: limits, privileges, seccomp, landlock ABI 7 (files)"
    assert not Posture(mode="auto", missing={"seccomp": "x"}).is_complete
    lacking = Posture(mode="auto", missing={"seccomp": "no table"}, landlock_abi=1, landlock_scope=("files",))
    assert str(lacking) == "auto: limits, privileges, landlock ABI 1 (files); without seccomp: no table"
