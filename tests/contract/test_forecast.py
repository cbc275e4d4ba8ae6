"""`Estimator`: combines the estimates of plugins, and ignores invalid ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import inf, nan
from typing import Any

import pytest
from msgspec.structs import replace

from offloop.operation import Estimate, Header, Operation, Plugin, SourceHeader
from offloop.plugins.estimator import Estimator, SourceHead

HEADER = Header(media_type="image/x", width=3, height=2, bands=1)


class FakePlugin(Plugin):
    """A plugin that returns a given header and estimate, and records its calls."""

    name = "sayer"
    operations = ()
    processor = "nowhere:Nothing"
    probe_nbytes = 4

    def __init__(self, estimate: Any = None, header: Any = HEADER) -> None:
        self.result, self.header = estimate, header
        self.asked: list[Any] = []

    def probe(self, data: memoryview) -> Any:
        self.asked.append(bytes(data))
        if isinstance(self.header, BaseException):
            raise self.header
        return self.header

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Any:
        self.asked.append((header, nbytes))
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def estimate_of(peak: Any = 10, work: Any = 1.0, output: Any = 5) -> Estimate:
    return Estimate(peak_bytes=peak, work_s=work, output_bytes=output)


def forecast(*plugins: FakePlugin) -> tuple[Estimate | None, str]:
    return Estimator([(plugin, ()) for plugin in plugins]).estimate([SourceHead(1000, memoryview(b"abcdefgh"))])


def test_the_first_plugin_reads_the_header_and_each_plugin_estimates_its_stage() -> None:
    first, second = FakePlugin(estimate_of()), FakePlugin(estimate_of())
    forecast(first, second)
    assert first.asked == [b"abcd", (HEADER, 1000)]
    assert second.asked == [(None, 0)]


class Halving(FakePlugin):
    """A plugin whose output has half the width, or is what the test wants."""

    output: Any = None

    def source_after(self, source: SourceHeader, operations: Sequence[Operation]) -> Any:
        if isinstance(self.output, BaseException):
            raise self.output
        assert source.header is not None
        return self.output or SourceHeader(replace(source.header, width=source.header.width // 2), source.nbytes // 2)


def test_each_stage_is_estimated_with_the_header_that_the_stage_before_predicts() -> None:
    header = replace(HEADER, width=40)
    first, second, third = (Halving(estimate_of(), header) for _ in range(3))
    forecast(first, second, third)
    assert second.asked == [(replace(header, width=20), 500)]
    assert third.asked == [(replace(header, width=10), 250)]


NOT_A_HEADER: Any = "header"


@pytest.mark.parametrize("output", [ValueError("x"), SystemExit(1), "text", SourceHeader(NOT_A_HEADER, 3)], ids=repr)
def test_an_invalid_prediction_counts_as_none(output: Any, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Halving(estimate_of()), FakePlugin(estimate_of())
    first.output = output
    assert forecast(first, second)[0] == estimate_of(10, 2.0, 5)
    assert second.asked == [(None, 0)]
    assert "source_after" in caplog.text


def test_the_work_of_stages_adds_up_and_their_memory_does_not() -> None:
    estimate, media_type = forecast(FakePlugin(estimate_of(10, 1.0, 50)), FakePlugin(estimate_of(30, 2.0, 5)))
    assert (estimate, media_type) == (estimate_of(30, 3.0, 50), "image/x")


def test_a_plugin_without_an_estimate_makes_the_estimate_none_and_the_media_type_stays() -> None:
    assert forecast(FakePlugin(estimate_of()), FakePlugin(None)) == (None, "image/x")


def test_samples_have_a_shape_and_no_media_type() -> None:
    plugin = FakePlugin(estimate_of())
    assert Estimator([(plugin, ())]).estimate([SourceHead(6, None, (2, 3, 1))]) == (estimate_of(), "")
    assert plugin.asked == [(Header(media_type="", width=3, height=2, bands=1), 6)]


@pytest.mark.parametrize(
    "invalid",
    [
        RuntimeError("no"),
        SystemExit(3),
        estimate_of(peak=-1),
        estimate_of(output=-1),
        estimate_of(work=-0.1),
        estimate_of(work=nan),
        estimate_of(work=inf),
        estimate_of(work=10**400),
        estimate_of(peak=nan),
        estimate_of(output=nan),
        estimate_of(peak=inf),
        estimate_of(output=inf),
        estimate_of(peak="much"),
        estimate_of(peak=None),
        {"peak_bytes": 1},
        5,
    ],
)
def test_an_invalid_estimate_counts_as_none_and_is_logged(invalid: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "offloop.plugins"):
        assert forecast(FakePlugin(estimate_of()), FakePlugin(invalid)) == (None, "image/x")
    assert "'sayer'" in caplog.text


def test_a_huge_estimate_is_limited() -> None:
    estimate, _ = forecast(FakePlugin(estimate_of(10**400, 1e308, 10**400)), FakePlugin(estimate_of(1, 1e308, 1)))
    assert estimate is not None
    assert (estimate.peak_bytes, estimate.output_bytes) == (1 << 60, 1 << 60)
    assert estimate.work_s == 2e9


def test_numbers_of_other_types_become_whole_bytes() -> None:
    estimate, _ = forecast(FakePlugin(estimate_of(10.7, 2, 5.0)))
    assert estimate == estimate_of(10, 2.0, 5)
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
def test_an_invalid_header_counts_as_none_and_is_logged(header: Any, caplog: pytest.LogCaptureFixture) -> None:
    plugin = FakePlugin(estimate_of(), header)
    assert forecast(plugin) == (estimate_of(), "")
    assert plugin.asked == [b"abcd", (None, 1000)]
    assert "'sayer'" in caplog.text


def test_without_a_header_the_plugins_still_estimate(caplog: pytest.LogCaptureFixture) -> None:
    first, second = FakePlugin(estimate_of(10, 1.0, 50), None), FakePlugin(estimate_of(30, 2.0, 5))
    assert forecast(first, second) == (estimate_of(30, 3.0, 50), "")
    assert (first.asked, second.asked) == ([b"abcd", (None, 1000)], [(None, 0)])
    assert caplog.text == ""


def test_an_empty_source_is_estimated() -> None:
    plugin = FakePlugin(estimate_of(), None)
    assert Estimator([(plugin, ())]).estimate([SourceHead(0, memoryview(b""))]) == (estimate_of(), "")
    assert plugin.asked == [b"", (None, 0)]
