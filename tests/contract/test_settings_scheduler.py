"""Settings of the scheduler: number of workers, memory, queue limits."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from offloop.core.memory.budget import DEFAULT_WORKER_NBYTES
from offloop.core.model.settings import AdmissionMode
from offloop.settings import PoolSettings
from offloop.system import available_cpus

MIB = 1 << 20

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"workers": 2, "min_workers": 1}, ValueError, "not both"),
    ({"workers": 2, "max_workers": 4}, ValueError, "not both"),
    ({"min_workers": 0}, ValueError, "min_workers=0"),
    ({"min_workers": 1025}, ValueError, "from 1 to 1,024"),
    ({"min_workers": 1.0}, TypeError, "whole number"),
    ({"max_workers": 0}, ValueError, "max_workers=0"),
    ({"max_workers": True}, TypeError, "whole number"),
    ({"min_workers": 4, "max_workers": 3}, ValueError, "from 4 to 1,024"),
    ({"idle_timeout": -1}, ValueError, "idle_timeout=-1"),
    ({"idle_timeout": math.nan}, ValueError, "idle_timeout"),
    ({"idle_timeout": math.inf}, ValueError, "idle_timeout"),
    ({"idle_timeout": "1"}, TypeError, "number"),
    ({"admission": "on"}, ValueError, "'enforce', 'shadow', 'off'"),
    ({"admission": None}, ValueError, "'enforce', 'shadow', 'off'"),
    ({"max_queue_bytes": -1}, ValueError, "at least 0"),
    ({"max_queue_bytes": "much"}, ValueError, "max_queue_bytes='much'"),
    ({"max_queue_bytes": 1.5}, TypeError, "max_queue_bytes=1.5"),
    ({"max_queue_bytes": True}, TypeError, "whole number"),
]


@pytest.mark.parametrize(("settings", "error", "text"), REFUSED)
def test_an_invalid_setting_is_refused_by_name(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        PoolSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "min_workers", "max_workers"),
    [
        ({"workers": 3}, 3, 3),
        ({"min_workers": 2, "max_workers": 5}, 2, 5),
        ({"min_workers": 2, "max_workers": 2}, 2, 2),
        ({"max_workers": 5}, 1, 5),
        ({"min_workers": 900}, 900, 900),
        ({"min_workers": 1}, 1, available_cpus().value),
        ({}, available_cpus().value, available_cpus().value),
    ],
)
def test_a_number_of_workers_is_fixed_and_a_range_scales(settings: dict[str, Any], min_workers: int, max_workers: int) -> None:
    core = PoolSettings(**settings, admission="off").resolved()
    assert (core.groups[0].min_workers, core.groups[0].workers) == (min_workers, max_workers)


def test_sizes_are_bytes_or_text() -> None:
    core = PoolSettings(max_queue_bytes="2KiB", idle_timeout=1.5).resolved()
    assert (core.max_queue_bytes, core.groups[0].idle_timeout_s) == (2048, 1.5)
    assert PoolSettings().resolved().max_queue_bytes is None


@pytest.mark.parametrize(
    ("admission", "mode", "bounded"),
    [("enforce", AdmissionMode.ENFORCE, True), ("shadow", AdmissionMode.SHADOW, False), ("off", AdmissionMode.OFF, False)],
)
def test_workers_have_a_hard_limit_only_where_memory_is_enforced(admission: Any, mode: AdmissionMode, bounded: bool) -> None:
    core = PoolSettings(workers=1, memory_limit=512 * MIB, admission=admission).resolved()
    assert (core.admission, core.budget_bytes) == (mode, 512 * MIB)
    assert (core.hard_limit_bytes is not None) is bounded
    assert core.hard_limit_bytes is None or core.hard_limit_bytes > 512 * MIB


def test_a_limit_that_idle_workers_would_fill_bounds_only_shared_memory_and_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    enough = 3 * DEFAULT_WORKER_NBYTES + 64 * MIB
    with caplog.at_level(logging.WARNING, "offloop.settings"):
        assert PoolSettings(workers=2, spares=1, memory_limit=enough).resolved().budget_bytes == enough
        assert caplog.text == ""
        core = PoolSettings(workers=2, spares=1, memory_limit=enough - 1).resolved()
    assert (core.budget_bytes, core.hard_limit_bytes) == (None, None)
    assert f"{enough - 1:,} bytes" in caplog.text
