"""What plugins say that a pipeline will take: put together, and believed only if it makes sense."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import inf, nan
from typing import Any

import pytest

from offloop.operation import Estimate, Header, Operation, Plugin
from offloop.plugins.estimator import Estimator

HEADER = Header(media_type="image/x", width=3, height=2, bands=1)


class Sayer(Plugin):
    """A plugin that says what it is told to, and remembers what it was asked."""

    name = "sayer"
    operations = ()
    processor = "nowhere:Nothing"
    probe_nbytes = 4

    def __init__(self, estimate: Any = None, header: Any = HEADER) -> None:
        self.said, self.header = estimate, header
        self.asked: list[Any] = []

    def probe(self, data: memoryview) -> Any:
        self.asked.append(bytes(data))
        if isinstance(self.header, BaseException):
            raise self.header
        return self.header

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Any:
        self.asked.append((header, nbytes))
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


def said(peak: Any = 10, work: Any = 1.0, output: Any = 5) -> Estimate:
    return Estimate(peak_bytes=peak, work_s=work, output_bytes=output)


def forecast(*plugins: Sayer) -> tuple[Estimate | None, str]:
    return Estimator([(plugin, ()) for plugin in plugins]).estimate_bytes(memoryview(b"abcdefgh"), 1000)


def test_the_first_plugin_reads_the_header_and_every_one_estimates_its_part() -> None:
    first, second = Sayer(said()), Sayer(said())
    forecast(first, second)
    assert first.asked == [b"abcd", (HEADER, 1000)]
    assert second.asked == [(None, 0)]


def test_the_work_of_stages_adds_up_and_their_memory_does_not() -> None:
    estimate, media_type = forecast(Sayer(said(10, 1.0, 50)), Sayer(said(30, 2.0, 5)))
    assert (estimate, media_type) == (said(30, 3.0, 50), "image/x")


def test_one_that_knows_nothing_makes_the_whole_unknown_and_the_media_type_is_known_all_the_same() -> None:
    assert forecast(Sayer(said()), Sayer(None)) == (None, "image/x")


def test_samples_have_a_shape_and_no_media_type() -> None:
    plugin = Sayer(said())
    assert Estimator([(plugin, ())]).estimate_samples((2, 3, 1), 6) == (said(), "")
    assert plugin.asked == [(Header(media_type="", width=3, height=2, bands=1), 6)]


@pytest.mark.parametrize(
    "nonsense",
    [
        RuntimeError("no"),
        SystemExit(3),
        said(peak=-1),
        said(output=-1),
        said(work=-0.1),
        said(work=nan),
        said(work=inf),
        said(work=10**400),
        said(peak=nan),
        said(output=nan),
        said(peak=inf),
        said(output=inf),
        said(peak="much"),
        said(peak=None),
        {"peak_bytes": 1},
        5,
    ],
)
def test_nonsense_is_as_if_nothing_had_been_said_and_is_logged(nonsense: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "offloop.plugins"):
        assert forecast(Sayer(said()), Sayer(nonsense)) == (None, "image/x")
    assert "'sayer'" in caplog.text


def test_an_estimate_beyond_all_memory_is_one_that_can_be_reckoned_with() -> None:
    estimate, _ = forecast(Sayer(said(10**400, 1e308, 10**400)), Sayer(said(1, 1e308, 1)))
    assert estimate is not None
    assert (estimate.peak_bytes, estimate.output_bytes) == (1 << 60, 1 << 60)
    assert estimate.work_s == 2e9


def test_what_a_plugin_computed_in_other_numbers_is_whole_bytes() -> None:
    estimate, _ = forecast(Sayer(said(10.7, 2, 5.0)))
    assert estimate == said(10, 2.0, 5)
    assert estimate is not None
    assert [type(value) for value in (estimate.peak_bytes, estimate.work_s, estimate.output_bytes)] == [int, float, int]


@pytest.mark.parametrize(
    "header",
    [
        RuntimeError("no"),
        SystemExit(3),
        "image/x",
        {"width": 1},
        Header(media_type=[], width=1, height=1),  # type: ignore[arg-type]
    ],
)
def test_a_header_that_makes_no_sense_is_no_header_and_is_logged(header: Any, caplog: pytest.LogCaptureFixture) -> None:
    plugin = Sayer(said(), header)
    assert forecast(plugin) == (said(), "")
    assert plugin.asked == [b"abcd", (None, 1000)]
    assert "'sayer'" in caplog.text


def test_without_a_header_the_plugins_are_asked_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Sayer(said(10, 1.0, 50), None), Sayer(said(30, 2.0, 5))
    assert forecast(first, second) == (said(30, 3.0, 50), "")
    assert (first.asked, second.asked) == ([b"abcd", (None, 1000)], [(None, 0)])
    assert caplog.text == ""


def test_an_empty_source_is_asked_about_as_well() -> None:
    plugin = Sayer(said(), None)
    assert Estimator([(plugin, ())]).estimate_bytes(memoryview(b""), 0) == (said(), "")
    assert plugin.asked == [b"", (None, 0)]
