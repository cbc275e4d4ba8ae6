"""Whose turn it is when server and workers want the same processor."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Inspect

pytestmark = pytest.mark.anyio


async def priority_of_a_worker(nice: int | None) -> tuple[int, int | None]:
    """The niceness of a worker's process and of its autogroup, where there are such."""
    settings: dict[str, Any] = {} if nice is None else {"nice": nice}
    async with Pool(1, plugins=[FaultsPlugin], **settings) as pool:
        pid = (await pool.run(b"", [Inspect()])).info.pid
        group = Path(f"/proc/{pid}/autogroup")
        niceness = re.search(r"nice (-?\d+)", group.read_text()) if group.exists() else None
        return os.getpriority(os.PRIO_PROCESS, pid), niceness and int(niceness[1])


@pytest.mark.parametrize(("nice", "expected"), [(None, 5), (0, 0), (1, 1), (19, 19)])
async def test_workers_are_nicer_than_the_server_by_what_was_asked(
    anyio_backend: object, nice: int | None, expected: int
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    niceness, of_group = await priority_of_a_worker(nice)
    assert niceness == min(own + expected, 19)
    assert of_group in (None, niceness), "a session of its own has a niceness of its own"
