"""Refusal of a source by its header, before it is copied."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from offloop.errors import TaskFailed
from offloop.operation import Estimate, Header, Operation, Plugin
from offloop.plugins.estimator import Estimator, SourceHead, combine
from offloop.plugins.registry import Registry


class Limit(Operation, frozen=True):
    most: int = 0


class RefusingPlugin(Plugin):
    """Refuses sources of more than `Limit.most` bytes."""

    name = "refusing"
    operations = (Limit,)
    processor = "builtins:object"
    failure: ClassVar[type[Exception] | None] = None

    def probe(self, data: memoryview) -> Header | None:
        return Header(media_type="any", width=len(data), height=1) if data.nbytes else None

    def refuse(self, header: Header, operations: Sequence[Any], nbytes: int) -> None:
        if self.failure is not None:
            raise self.failure
        if nbytes > operations[0].most:
            raise TaskFailed("too_long", f"{nbytes} bytes of {header.media_type}")


class BrokenPlugin(RefusingPlugin):
    failure = ZeroDivisionError


def head(nbytes: int) -> SourceHead:
    return SourceHead(nbytes, memoryview(bytes(nbytes)))


def estimator(most: int, plugin: Plugin | None = None) -> Estimator:
    return Estimator([(plugin or RefusingPlugin(), (Limit(most),))])


def test_the_refusal_of_the_plugin_is_the_error_of_the_task() -> None:
    with pytest.raises(TaskFailed, match="8 bytes of any") as failure:
        estimator(5).estimate([head(8)])
    assert failure.value.code == "too_long"
    assert estimator(8).estimate([head(8)]) == (None, "any")


def test_a_source_without_a_header_and_samples_are_not_refused() -> None:
    assert estimator(-1).estimate([head(0)]) == (None, "")
    assert estimator(0).estimate([SourceHead(9, None, (3, 3))]) == (None, "")


def test_another_exception_is_logged_and_refuses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "offloop.plugins"):
        assert estimator(0, BrokenPlugin()).estimate([head(8)]) == (None, "any")
    assert "refuse of 'refusing' raised" in caplog.text


def test_several_pipelines_are_refused_together_only_if_each_refuses_the_source() -> None:
    assert combine([estimator(5), estimator(9)]).estimate([head(8)]) == (None, "any")
    with pytest.raises(TaskFailed, match="8 bytes"):
        combine([estimator(5), estimator(6)]).estimate([head(8)])


def test_a_plugin_that_only_refuses_is_asked() -> None:
    registry = Registry([RefusingPlugin])
    found = registry.find_estimator([Limit(3)])
    assert found is not None
    with pytest.raises(TaskFailed):
        found.estimate([head(8)])


def test_the_estimates_of_pipelines_that_are_not_refused_are_summed() -> None:
    class Estimating(RefusingPlugin):
        def estimate(self, header: Header | None, operations: Sequence[Any], nbytes: int) -> Estimate:
            return Estimate(peak_bytes=nbytes, work_s=1.0, output_bytes=2)

    known, _ = combine([estimator(most, Estimating()) for most in (5, 9, 10)]).estimate([head(8)])
    assert known is not None
    assert (known.work_s, known.output_bytes) == (2.0, 4)
