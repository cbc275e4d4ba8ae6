"""Memory measurement and memory limits of a worker, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

BEGINNING = """
import mmap, resource, time
from offloop.worker.isolation.memory_limits import PrivateMemory
MIB = 1 << 20
memory = PrivateMemory()
memory.rebaseline()

def take(nbytes):
    block = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, nbytes, 4096):
        block[offset] = 1
    return block

def busy():
    end = time.monotonic() + 0.002
    while time.monotonic() < end:
        pass

def is_refused(nbytes):
    try:
        take(nbytes).close()
    except (MemoryError, OSError):
        return True
    return False
"""


def run(text: str) -> None:
    """Run that in a child; an assertion that fails there fails here, with its words."""
    child = subprocess.run(
        [sys.executable, "-c", BEGINNING + dedent(text)], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == 0, child.stderr


def test_a_peak_is_what_was_taken_in_between_though_it_was_given_back() -> None:
    run("""
        memory.begin(time.monotonic_ns())
        take(40 * MIB).close()
        busy()
        assert 38 * MIB < memory.peak(time.monotonic_ns()) < 50 * MIB, memory.peak(time.monotonic_ns())
    """)


def test_the_peak_of_one_task_is_not_that_of_the_next() -> None:
    run("""
        memory.begin(time.monotonic_ns())
        take(40 * MIB).close()
        busy()
        memory.peak(time.monotonic_ns())
        memory.begin(time.monotonic_ns())
        take(8 * MIB).close()
        busy()
        assert 6 * MIB < memory.peak(time.monotonic_ns()) < 20 * MIB, memory.peak(time.monotonic_ns())
    """)


def test_a_peak_is_the_same_though_somebody_looked_in_the_middle() -> None:
    run("""
        memory.begin(time.monotonic_ns())
        block = take(40 * MIB)
        memory._sampled_at_ns = 0  # as if a twentieth of a second had passed
        assert memory.sample() > 40 * MIB
        block.close()
        busy()
        assert 38 * MIB < memory.peak(time.monotonic_ns()) < 50 * MIB, memory.peak(time.monotonic_ns())
        assert memory.sample() < 40 * MIB, "the task's memory is no idle worker's"
    """)


def test_memory_that_was_freed_before_a_result_was_filled_is_in_the_peak() -> None:
    run("""
        for _ in range(2):
            memory.begin(time.monotonic_ns())
            take(40 * MIB).close()
            memory.begin_result(30 * MIB)
            result = mmap.mmap(-1, 30 * MIB)
            for offset in range(0, len(result), 4096):
                result[offset] = 1
            busy()
            assert 38 * MIB < memory.peak(time.monotonic_ns()) < 50 * MIB, memory.peak(time.monotonic_ns())
            result.close()
    """)


def test_memory_that_is_taken_and_freed_after_a_result_was_granted_is_seen_by_a_look() -> None:
    run("""
        memory.begin(time.monotonic_ns())
        memory.begin_result(30 * MIB)
        block = take(40 * MIB)
        memory._sampled_at_ns = 0  # as if a twentieth of a second had passed
        memory.sample()
        block.close()
        result = mmap.mmap(-1, 30 * MIB)
        for offset in range(0, len(result), 4096):
            result[offset] = 1
        busy()
        assert 38 * MIB < memory.peak(time.monotonic_ns()) < 50 * MIB, memory.peak(time.monotonic_ns())
    """)


def test_what_a_task_has_taken_does_not_widen_its_limit() -> None:
    run("""
        memory.begin(time.monotonic_ns())
        memory.set_soft_limit(100 * MIB)
        block = take(60 * MIB)
        memory._sampled_at_ns = 0
        memory.sample()
        memory.set_soft_limit(100 * MIB)  # the next stage
        assert is_refused(60 * MIB)
    """)


def test_what_a_worker_has_anyway_is_not_in_its_peak() -> None:
    run("""
        kept = take(40 * MIB)
        assert memory.rebaseline() > 40 * MIB
        memory.begin(time.monotonic_ns())
        busy()
        memory.peak(time.monotonic_ns())
        memory.begin(time.monotonic_ns())
        busy()
        assert memory.peak(time.monotonic_ns()) < 10 * MIB, memory.peak(time.monotonic_ns())
    """)


def test_shared_memory_is_not_private() -> None:
    run("""
        before = memory.rebaseline()
        shared = mmap.mmap(-1, 40 * MIB)
        for offset in range(0, len(shared), 4096):
            shared[offset] = 1
        assert memory.rebaseline() - before < 5 * MIB
    """)


def test_a_task_that_is_over_at_once_is_not_measured() -> None:
    run("""
        memory.begin(time.monotonic_ns())
        memory._began_at_ns += 10 ** 12  # because the machine may be busy for more than a millisecond
        assert memory.peak(time.monotonic_ns()) == 0
    """)


def test_what_asks_for_more_than_is_allowed_is_refused_and_may_go_on() -> None:
    run("""
        memory.set_soft_limit(64 * MIB)
        assert not is_refused(20 * MIB)
        assert is_refused(200 * MIB)
        assert not is_refused(20 * MIB)
        memory.set_soft_limit(None)
        assert not is_refused(200 * MIB)
    """)


def test_what_is_allowed_is_beside_what_it_has() -> None:
    run("""
        kept = take(200 * MIB)
        memory.rebaseline()
        memory.set_soft_limit(64 * MIB)
        assert not is_refused(40 * MIB)
        assert is_refused(100 * MIB)
    """)


def test_a_limit_for_good_cannot_be_lifted_and_nothing_is_allowed_beyond_it() -> None:
    run("""
        memory.set_hard_limit(300 * MIB)
        for allowed in (None, 1000 * MIB):
            memory.set_soft_limit(allowed)
            assert is_refused(400 * MIB)
        try:
            resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (ValueError, OSError):
            pass
        else:
            import os
            assert os.geteuid() == 0, "only root could"
        memory.set_soft_limit(10 * MIB)
        assert is_refused(50 * MIB)
    """)


def test_a_stricter_limit_that_is_there_already_stays() -> None:
    run("""
        import os
        resource.setrlimit(resource.RLIMIT_DATA, (200 * MIB, 200 * MIB))
        memory.set_hard_limit(100 * MIB)
        assert resource.getrlimit(resource.RLIMIT_DATA)[1] == 100 * MIB
        if os.geteuid():
            memory.set_hard_limit(400 * MIB)
            assert resource.getrlimit(resource.RLIMIT_DATA)[1] == 100 * MIB
    """)
