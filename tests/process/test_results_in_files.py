"""Results in files (`to=`): the worker writes to a descriptor that the server opened, and opens no path."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import InvalidTask, Pool, TaskFailed, WorkerDied
from offloop.testing import Traffic, Transport, pool_with, scripted_pool
from offloop.testing.faults import Echo, Exit, FaultsPlugin, Inspect, Noop, Wait
from offloop.testing.steps import Answer

pytestmark = pytest.mark.anyio


async def test_files_of_any_size_are_written_by_as_many_tasks_as_there_are(pool: Pool, tmp_path: Path) -> None:
    async def submit(number: int) -> None:
        result = await pool.run(bytes([number]) * number * 40_000, [Echo()], to=tmp_path / f"{number}")
        assert result.nbytes == number * 40_000

    async with anyio.create_task_group() as task_group:
        for number in range(30):
            task_group.start_soon(submit, number)
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(30)}
    for number in range(30):
        assert (tmp_path / str(number)).read_bytes() == bytes([number]) * number * 40_000


async def test_a_mode_of_600_stays(pool_of_one: Pool, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    await pool_of_one.run(b"abc", [Echo()], to=path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"abc", 0o600)


async def test_a_destination_that_makes_no_sense_is_refused_before_the_task_is_run(pool_of_one: Pool, tmp_path: Path) -> None:
    for to in ("/", "", "a\0b", "a\ud800", 3, tmp_path, "/dev/null"):
        with pytest.raises(InvalidTask):
            await pool_of_one.run(b"", [Exit(1)], to=to)  # type: ignore[arg-type]
    for to in (tmp_path / "missing" / "x", tmp_path / ("n" * 256)):
        with pytest.raises(TaskFailed) as caught:
            await pool_of_one.run(b"", [Exit(1)], to=to)
        assert caught.value.code == "cannot_write"
    statistics = pool_of_one.statistics()
    assert statistics.worker_crashes == 0
    assert (statistics.submitted, statistics.failed + statistics.refused) == (4, 4), "four were looked for in the file system"


async def test_a_directory_that_goes_while_the_task_runs_is_its_error(pool_of_one: Pool, tmp_path: Path) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    async with anyio.create_task_group() as task_group:

        async def submit() -> None:
            with pytest.raises(TaskFailed, match="No such file") as caught:
                await pool_of_one.run(b"", [Wait(0.2)], to=directory / "x")
            assert caught.value.code == "cannot_write"
            assert str(directory) in str(caught.value)

        task_group.start_soon(submit)
        while not pool_of_one.statistics().running:
            await anyio.sleep(0)
        directory.rmdir()
    assert (await pool_of_one.run(b"abc", [Echo()])).nbytes == 3


async def test_a_device_without_room_is_the_tasks_error(pool_of_one: Pool, tmp_path: Path) -> None:
    pid = await worker_pid(pool_of_one)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, 1000))  # EFBIG, as ENOSPC on a full disk
    with pytest.raises(TaskFailed, match="the file cannot be written: File too large") as caught:
        await pool_of_one.run(bytes(2000), [Echo()], to=tmp_path / "x")
    assert caught.value.code == "cannot_write"
    assert [*tmp_path.iterdir()] == []


async def worker_pid(pool: Pool) -> int:
    return int((await pool.run(b"", [Inspect()])).info.pid)


async def test_a_file_survives_that_its_first_worker_died(pool_of_one: Pool, tmp_path: Path) -> None:
    with pytest.raises(WorkerDied):
        await pool_of_one.run(b"abc", [Exit(1)], to=tmp_path / "x", retries=1)
    assert [*tmp_path.iterdir()] == []
    await pool_of_one.run(b"abc", [Echo()], to=tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"abc"


@pytest.mark.every_loop
async def test_a_caller_that_leaves_at_any_moment_leaves_a_whole_file_or_none(pool: Pool, tmp_path: Path) -> None:
    data = bytes(2_000_000)

    async def submit(number: int) -> None:
        with anyio.move_on_after(number * 0.001):
            await pool.run(data, [Echo()], to=tmp_path / f"{number}")

    for number in range(0, 60, 3):
        await submit(number)
    for path in tmp_path.iterdir():
        assert path.name.isdecimal()
        assert path.stat().st_size == len(data)
    assert open_files_in(tmp_path) == []
    assert pool.statistics().submitted == 20, "those too whose caller left while the destination was looked at"


def open_files_in(directory: Path) -> list[str]:
    """Files below a directory that this process has open."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [str(os.readlink(link)) for link in links if link.is_symlink() and str(directory) in os.readlink(link)]


async def test_no_descriptor_is_left_in_worker_or_server(pool_of_one: Pool, tmp_path: Path) -> None:
    pid = await worker_pid(pool_of_one)
    for to in (tmp_path / "a", tmp_path / "b"):
        await pool_of_one.run(b"abc", [Echo()], to=to)
    await pool_of_one.run(b"", [Noop()])
    held = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    assert not [link for link in held if str(tmp_path) in link]
    with anyio.fail_after(5):
        while open_files_in(tmp_path):
            await anyio.sleep(0.001)


async def test_a_descriptor_passes_through_a_bad_line(anyio_backend: object, tmp_path: Path) -> None:
    launcher = Transport(to_worker=Traffic(split_nbytes=3), from_worker=Traffic(split_nbytes=3))
    async with pool_with(launcher, workers=1, plugins=[FaultsPlugin]) as pool:
        for number in range(3):
            await pool.run(b"abc" * number, [Echo()], to=tmp_path / f"{number}")
    assert [(tmp_path / f"{number}").read_bytes() for number in range(3)] == [b"abc" * number for number in range(3)]


async def test_a_scripted_worker_writes_files_too(anyio_backend: object, tmp_path: Path) -> None:
    async with scripted_pool([Answer(b"abc")], plugins=[FaultsPlugin]) as pool:
        assert (await pool.run(b"", [Noop()], to=tmp_path / "x")).nbytes == 3
    assert (tmp_path / "x").read_bytes() == b"abc"


async def test_a_result_whose_file_cannot_be_named_is_an_error_and_a_completed_task(pool_of_one: Pool, tmp_path: Path) -> None:
    async with anyio.create_task_group() as task_group:

        async def submit() -> None:
            with pytest.raises(InvalidTask, match="a directory is there"):
                await pool_of_one.run(bytes(1_000_000), [Echo()], to=tmp_path / "x")

        task_group.start_soon(submit)
        while not open_files_in(tmp_path):  # in each turn of the loop, so before the worker's answer is read
            await anyio.sleep(0)
        (tmp_path / "x").mkdir()
    statistics = pool_of_one.statistics()
    assert (statistics.submitted, statistics.completed, statistics.failed) == (1, 1, 0)


SERVER = """
import json, os, sys
import anyio
from offloop import Pool
from offloop.testing.faults import *

async def main():
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="2GiB", timeout=None) as pool:
        pid = (await pool.run(b"", [Inspect()])).info.pid
        print(json.dumps(pid), flush=True)
        await pool.run(b"", [Allocate(300_000_000)], to=sys.argv[1])

anyio.run(main)
"""


def written_bytes(pid: int, directory: Path) -> int:
    """How far a process is in the file that it writes below a directory."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if str(directory) in os.readlink(f"/proc/{pid}/fd/{name}"):
                return int(Path(f"/proc/{pid}/fdinfo/{name}").read_text().split()[1])
        except OSError:
            continue
    return 0


@pytest.mark.parametrize("victim", ["server", "worker"])
def test_nothing_is_left_when_server_or_worker_is_killed_while_the_file_is_written(tmp_path: Path, victim: str) -> None:
    target = tmp_path / "out" / "result"
    target.parent.mkdir()
    command: list[Any] = [sys.executable, "-c", SERVER, target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        worker = json.loads(server.stdout.readline())
        deadline = time.monotonic() + 20
        while not written_bytes(worker, tmp_path):
            assert server.poll() is None
            assert time.monotonic() < deadline, "the worker never wrote"
        os.kill(worker, signal.SIGSTOP)
        assert 0 < written_bytes(worker, tmp_path) < 300_000_000
        os.kill(server.pid if victim == "server" else worker, signal.SIGKILL)
        server.wait(20)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [*target.parent.iterdir()] == []


async def test_a_result_is_saved_from_memory_also_after_its_pool_was_closed(anyio_backend: object, tmp_path: Path) -> None:
    path, link = tmp_path / "old", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o600)
    link.symlink_to(path)
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        result = await pool.run(b"new" * 100_000, [Echo()])
        empty = await pool.run(b"", [Noop()])
        in_file = await pool.run(b"abc", [Echo()], to=tmp_path / "to")
    assert await result.save(path) == path
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new" * 100_000, 0o600)
    assert await result.save(str(link)) == link
    assert not link.is_symlink()
    assert (await empty.save(tmp_path / "empty")).read_bytes() == b""
    with pytest.raises(TaskFailed) as caught:
        await result.save(tmp_path / "missing" / "file")
    assert caught.value.code == "cannot_write"
    with pytest.raises(InvalidTask, match="it names a directory"):
        await result.save(f"{tmp_path}/")
    with pytest.raises(InvalidTask, match="in the file"):
        await in_file.save(path)
    assert {each.name for each in tmp_path.iterdir()} == {"old", "link", "empty", "to"}
