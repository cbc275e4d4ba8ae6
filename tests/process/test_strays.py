"""Processes that plugin code has moved to sessions of their own do not outlive their worker."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from daemon_plugin import DaemonPlugin, StartDaemons

from offloop import Operation, Pool, TaskTimeout, WorkerDied
from offloop.testing.faults import Exit, FaultsPlugin, Hang

pytestmark = pytest.mark.anyio


def alive(pids: Sequence[int]) -> list[int]:
    """Those that run, and are no zombies."""
    found: list[int] = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(pid)
    return found


async def gone(pids: Sequence[int]) -> None:
    """Return when they have ended: the system takes a moment for a SIGKILL."""
    with anyio.fail_after(5):
        while alive(pids):
            await anyio.sleep(0.01)


@pytest.mark.parametrize("end", [Exit(3), Hang("hold_gil"), None], ids=["crash", "kill", "close"])
async def test_they_are_killed_with_the_worker_and_said(
    anyio_backend: object, end: Operation | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "offloop.supervisor")
    async with Pool(1, plugins=[DaemonPlugin, FaultsPlugin], memory_limit="256MiB", grace=0.1, sandbox="off") as pool:
        pids = (await pool.run(b"", [StartDaemons()])).info.pids
        assert alive(pids) == pids
        if end is not None:
            with pytest.raises((WorkerDied, TaskTimeout)):
                await pool.run(b"", [end], timeout=0.5)
            await gone(pids)  # while the pool is open
    await gone(pids)
    assert [text for text in caplog.messages if "left 2 processes of other groups behind, which were killed" in text]


async def test_the_strays_of_another_worker_are_left_alone(anyio_backend: object) -> None:
    async with Pool(1, plugins=[DaemonPlugin], sandbox="off") as other:
        pids = (await other.run(b"", [StartDaemons()])).info.pids
        async with Pool(1, plugins=[DaemonPlugin], sandbox="off") as pool:
            await pool.run(b"", [StartDaemons()])
        assert alive(pids) == pids
    await gone(pids)
