"""CPU priority of workers relative to the server."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from weighing_plugin import Take, WeighingPlugin

from offloop import Pool, WorkerMoved
from offloop.testing.faults import FaultsPlugin, Inspect
from offloop.worker.isolation.terminal import detach_tty

pytestmark = pytest.mark.anyio


async def worker_of(pool: Pool) -> int:
    return (await pool.run(b"", [Inspect()])).info.pid


@pytest.mark.parametrize(("nice", "expected"), [(None, 8), (0, 0), (1, 1), (19, 19)])
async def test_workers_are_nicer_than_the_server_by_what_was_asked(
    anyio_backend: object, nice: int | None, expected: int
) -> None:
    settings: dict[str, Any] = {} if nice is None else {"nice": nice}
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with Pool(1, plugins=[FaultsPlugin], **settings) as pool:
        assert os.getpriority(os.PRIO_PROCESS, await worker_of(pool)) == min(own + expected, 19)


@pytest.mark.parametrize(("nice", "expected"), [(8, 2), (0, 0), ("idle", 19)])
async def test_a_worker_for_small_tasks_is_less_nice_than_those_with_large_ones(
    anyio_backend: object, tmp_path: Path, nice: Any, expected: int
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with Pool(1, plugins=[FaultsPlugin, WeighingPlugin], nice=nice) as pool:
        async with aclosing(pool.events()) as events, anyio.create_task_group() as tasks:
            tasks.start_soon(pool.run, b"text", [Take(says_s=9.0, hold=str(tmp_path / "end"))])
            async for event in events:
                if isinstance(event, WorkerMoved) and event.event == "Ready":
                    break
            small = await worker_of(pool)
            assert os.getpriority(os.PRIO_PROCESS, small) == min(own + expected, 19)
            assert os.sched_getscheduler(small) == os.SCHED_OTHER
            (tmp_path / "end").touch()


async def test_idle_workers_have_what_nobody_else_wants_with_all_their_threads(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], nice="idle") as pool:
        threads = [int(thread.name) for thread in Path(f"/proc/{await worker_of(pool)}/task").iterdir()]
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}
        assert len(threads) > 1, "one of them listens"


async def test_a_worker_is_in_the_servers_session_and_in_a_group_of_its_own(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pid = await worker_of(pool)
        assert os.getsid(pid) == os.getsid(0), "the scheduler weighs it against the server"
        assert os.getpgid(pid) == pid, "a terminal's signals are not for it"


SERVER = """
import anyio, os
from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Inspect

def terminal_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[4])

async def main():
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pid = (await pool.run(b"", [Inspect()])).info.pid
        assert os.getsid(pid) == os.getsid(0)
        print(terminal_of("self") != 0, terminal_of(pid) != 0)

anyio.run(main)
"""


def test_a_worker_has_no_terminal_though_the_server_does() -> None:
    master, slave = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    try:
        found = subprocess.run(
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, check=True, timeout=60, preexec_fn=take_terminal
        )
    finally:
        os.close(master)
        os.close(slave)
    assert found.stdout.split() == ["True", "False"]


def test_what_is_no_terminal_but_has_its_name_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In some sandboxes /dev/tty is a file or another device; workers start there all the same."""
    there = os.open

    def elsewhere(path: str, flags: int) -> int:
        assert path == "/dev/tty"
        return there(tmp_path / "tty", flags | os.O_CREAT)

    monkeypatch.setattr(os, "open", elsewhere)
    detach_tty()
