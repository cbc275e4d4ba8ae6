"""Copies of large results, which other threads do not wait for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from offloop.buffer_protocol import copy_of

MIB = 1024 * 1024


@pytest.fixture
def threads_wait_for_a_released_gil() -> Iterator[None]:
    """No thread gives up the GIL to another one because of the time that it has had it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("type_", [bytes, bytearray])
@pytest.mark.parametrize("nbytes", [0, 1, MIB, MIB + 1, 5 * MIB])
def test_a_copy_has_the_bytes_and_is_memory_of_its_own(type_: type[bytes | bytearray], nbytes: int) -> None:
    data = bytearray((bytes(range(251)) * (nbytes // 251 + 1))[:nbytes])
    copied = copy_of(memoryview(data).toreadonly(), type_)
    assert type(copied) is type_
    assert copied == data
    data[:1] = b"x" * min(nbytes, 1)
    assert copied[:1] == b"\0" * min(nbytes, 1)
    data.append(0)  # no view of it is left


def test_a_part_of_a_view_is_copied() -> None:
    data = bytes(range(256)) * (3 * MIB // 256)
    assert copy_of(memoryview(data)[7 : 2 * MIB + 9], bytes) == data[7 : 2 * MIB + 9]


def test_large_memory_with_gaps_is_refused() -> None:
    with pytest.raises(BufferError):
        copy_of(memoryview(bytes(4 * MIB))[::2], bytes)


@pytest.mark.usefixtures("threads_wait_for_a_released_gil")
@pytest.mark.parametrize("type_", [bytes, bytearray])
def test_another_thread_runs_during_a_large_copy(type_: type[bytes | bytearray]) -> None:
    data = memoryview(bytes(32 * MIB))
    gate, has_run = threading.Semaphore(0), list[int]()

    def run() -> None:
        gate.acquire()
        has_run.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    gate.release()
    for _ in range(100):
        copy_of(data, type_)
        if has_run:
            break
    assert has_run
    thread.join()
