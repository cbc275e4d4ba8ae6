"""The instructions of one small task do not grow unnoticed: they are compared with the recorded numbers."""

from __future__ import annotations

import pytest
from bench_instructions import TOLERANCE, count_all, recorded

from offloop.core import pool_state

COMMAND = "python benchmarks/bench_instructions.py --record"


@pytest.mark.skipif(not pool_state.__file__.endswith(".py"), reason="compiled functions execute no bytecode")
@pytest.mark.skipif(not recorded(), reason="no numbers are recorded for this version of Python")
def test_no_side_executes_more_instructions_for_a_small_task_than_recorded() -> None:
    counts, before = count_all(runs=5), recorded()
    assert counts.keys() == before.keys()
    more = {name: (before[name], count) for name, count in counts.items() if count > before[name] * (1 + TOLERANCE)}
    assert not more, f"if they are worth it, record them: {COMMAND}"


@pytest.mark.skipif(not pool_state.__file__.endswith(".py"), reason="compiled functions execute no bytecode")
@pytest.mark.skipif(not recorded(), reason="no numbers are recorded for this version of Python")
def test_the_recorded_numbers_are_not_far_above_the_present_ones() -> None:
    """Otherwise a task could become slower by the difference."""
    counts, before = count_all(runs=5), recorded()
    fewer = {name: (before[name], count) for name, count in counts.items() if count < before[name] * (1 - 3 * TOLERANCE)}
    assert not fewer, f"record the lower numbers: {COMMAND}"
