"""`Quarantine`: content that kills workers is recognised, refused, and forgotten."""

from __future__ import annotations

import msgspec

from offloop.core.model.task import TaskSpec
from offloop.core.tasks import quarantine as quarantine_module
from offloop.core.tasks.quarantine import Quarantine
from offloop.errors import TaskQuarantined
from offloop.wire.handles import INBOX, EncodedAt, Handle, RasterAt
from offloop.wire.messages import Stage

COOL_DOWN_S = 60.0


def spec_of(nbytes: int = 100, operations: bytes = b"\x90", plugin: str = "vips", *, offset: int = 0) -> TaskSpec:
    source = EncodedAt(Handle(INBOX, offset, nbytes, 1) if nbytes else None)
    return TaskSpec(sources=(source,), stages=[Stage(plugin, msgspec.Raw(operations))], timeout_s=None)


def raster_of(shape: tuple[int, int, int]) -> TaskSpec:
    source = RasterAt(Handle(INBOX, 0, 600, 1), shape, "|u1")
    return TaskSpec(sources=(source,), stages=[Stage("vips", msgspec.Raw(b"\x90"))], timeout_s=None)


def struck(times: int, after: int = 3, now: float = 0.0) -> Quarantine:
    quarantine = Quarantine(after, COOL_DOWN_S)
    for _ in range(times):
        quarantine.strike(spec_of(), b"bad", now)
    return quarantine


def test_content_is_refused_after_its_last_tolerated_death() -> None:
    assert struck(2).refusal(spec_of(), b"bad", 1.0) is None
    error = struck(3).refusal(spec_of(), b"bad", 1.0)
    assert isinstance(error, TaskQuarantined)
    assert (error.deaths, error.seconds_left) == (3, COOL_DOWN_S - 1.0)


def test_other_content_with_the_same_fingerprint_is_admitted() -> None:
    assert struck(3).refusal(spec_of(), b"good", 0.0) is None


def test_the_same_content_is_admitted_with_another_pipeline() -> None:
    quarantine = struck(3)
    assert quarantine.refusal(spec_of(operations=b"\x91\x90"), b"bad", 0.0) is None
    assert quarantine.refusal(spec_of(plugin="faces"), b"bad", 0.0) is None


def test_the_offset_of_the_content_does_not_matter() -> None:
    assert struck(3).refusal(spec_of(offset=8192), b"bad", 0.0) is not None


def test_only_a_task_with_the_fingerprint_of_a_suspect_is_a_suspect() -> None:
    quarantine = struck(1)
    assert quarantine.suspects(spec_of(), 0.0)
    assert not quarantine.suspects(spec_of(101), 0.0)
    assert not quarantine.suspects(spec_of(operations=b"\x91\x90"), 0.0)
    assert not Quarantine(3, COOL_DOWN_S).suspects(spec_of(), 0.0)


def test_samples_of_another_shape_have_another_fingerprint() -> None:
    quarantine = Quarantine(1, COOL_DOWN_S)
    quarantine.strike(raster_of((10, 20, 3)), b"bad", 0.0)
    assert quarantine.suspects(raster_of((10, 20, 3)), 0.0)
    assert not quarantine.suspects(raster_of((20, 10, 3)), 0.0)


def test_a_task_without_a_source_can_be_a_suspect() -> None:
    quarantine = Quarantine(1, COOL_DOWN_S)
    quarantine.strike(spec_of(0), b"", 0.0)
    assert quarantine.suspects(spec_of(0), 0.0)
    assert quarantine.refusal(spec_of(0), b"", 0.0) is not None


def test_a_cool_down_ends_and_the_content_starts_afresh() -> None:
    quarantine = struck(3)
    assert quarantine.refusal(spec_of(), b"bad", COOL_DOWN_S - 0.01) is not None
    assert quarantine.refusal(spec_of(), b"bad", COOL_DOWN_S) is None
    quarantine.strike(spec_of(), b"bad", COOL_DOWN_S)
    assert quarantine.refusal(spec_of(), b"bad", COOL_DOWN_S) is None, "one strike, not four"


def test_each_death_begins_the_cool_down_anew() -> None:
    quarantine = struck(2)
    quarantine.strike(spec_of(), b"bad", 50.0)
    error = quarantine.refusal(spec_of(), b"bad", 100.0)
    assert error is not None
    assert (error.deaths, error.seconds_left) == (3, 10.0)


def test_after_the_cool_down_its_fingerprint_is_not_suspect() -> None:
    quarantine = struck(3)
    assert quarantine.suspects(spec_of(), COOL_DOWN_S - 0.01)
    assert not quarantine.suspects(spec_of(), COOL_DOWN_S)
    assert len(quarantine) == 0


def test_content_that_did_no_harm_is_forgotten() -> None:
    quarantine = struck(2)
    quarantine.clear(spec_of(), b"bad")
    assert (len(quarantine), quarantine.suspects(spec_of(), 0.0)) == (0, False)
    quarantine.clear(spec_of(), b"never seen")


def test_a_fingerprint_is_suspect_as_long_as_one_content_of_it_is() -> None:
    quarantine = struck(2)
    quarantine.strike(spec_of(), b"worse", 0.0)
    assert len(quarantine) == 2
    quarantine.clear(spec_of(), b"bad")
    assert quarantine.suspects(spec_of(), 0.0)
    quarantine.clear(spec_of(), b"worse")
    assert not quarantine.suspects(spec_of(), 0.0)


def test_the_number_of_suspects_is_bounded_and_the_oldest_strike_is_forgotten_first() -> None:
    capacity = quarantine_module._CAPACITY
    quarantine = Quarantine(1, COOL_DOWN_S)
    for n in range(capacity):
        quarantine.strike(spec_of(n + 1), b"%d" % n, 0.0)
    quarantine.strike(spec_of(1), b"0", 1.0)
    quarantine.strike(spec_of(capacity + 1), b"new", 1.0)
    assert len(quarantine) == capacity
    assert not quarantine.suspects(spec_of(2), 1.0), "the suspect with the oldest strike"
    assert quarantine.suspects(spec_of(1), 1.0)
    assert quarantine.suspects(spec_of(capacity + 1), 1.0)


def test_without_a_number_the_quarantine_is_disabled() -> None:
    assert not Quarantine(None, COOL_DOWN_S).enabled
    assert Quarantine(1, COOL_DOWN_S).enabled
