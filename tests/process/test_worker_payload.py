"""Payloads that a worker makes from a task's source."""

from __future__ import annotations

import os

import pytest

from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Run
from offloop.worker.main import _sources_of
from offloop.worker.segments import Segment

NBYTES = 1 << 16


@pytest.fixture
def segment() -> Segment:
    descriptor = os.memfd_create("segment")  # mapping it closes it
    os.ftruncate(descriptor, NBYTES)
    return Segment(descriptor, NBYTES, writable=True)


def test_a_source_of_no_bytes_is_each_tasks_own(segment: Segment) -> None:
    run = Run(1, (EncodedAt(None),), [], None)
    first, second = _sources_of(run, segment, segment)[0], _sources_of(run, segment, segment)[0]
    assert isinstance(first.data, memoryview)
    first.data.release()  # as a processor may that uses it in a `with`
    assert bytes(second.data) == bytes(_sources_of(run, segment, segment)[0].data) == b""
