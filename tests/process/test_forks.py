"""Forks of a server with a live pool: the child can neither use nor harm it, and keeps no worker alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from offloop.runtime.loop.fork_safety import generation

LOOPS = ["asyncio", "uvloop", "trio"]

SERVER = """
import gc, json, multiprocessing, os, subprocess, sys, threading, traceback
import anyio
from offloop import Pool, PoolMisused
from offloop.testing.faults import *

def say(**what):
    print(json.dumps(what), flush=True)

async def attempt(call):
    try:
        outcome = call()
        if hasattr(outcome, "__await__"):
            outcome = await outcome
    except PoolMisused as error:
        return error.what
    except BaseException as error:
        return repr(error)
    return repr(outcome)

async def chunks():
    yield b"abc"

async def pids(pool):
    found = set()
    while len(found) < 2:
        async with anyio.create_task_group() as task_group:
            async def look():
                found.add((await pool.run(b"", [Wait(0.05), Inspect()])).info.pid)
            task_group.start_soon(look)
            task_group.start_soon(look)
    return sorted(found)

async def works(pool):
    "Small and large sources, a returned block that a task waits for, a death and a start."
    assert (await pool.run(b"abc", [Echo()])).nbytes == 3
    assert (await pool.run(bytes(9_000_000), [Echo()])).nbytes == 9_000_000
    try:
        await pool.run(b"", [Exit(3)])
    except Exception as error:
        assert error.exit_code == 3, error
    held = [pool.buffer(20_000_000) for _ in range(4)]
    threading.Timer(0.05, held.clear).start()
    await pool.buffer(85_000_000).ready()
    assert (await pool.run(b"abc", [Echo()])).nbytes == 3

async def main():
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="128MiB", grace=0.1) as pool:
        await body(pool)

BODY

backend = {"uvloop": "asyncio"}.get(sys.argv[1], sys.argv[1])
anyio.run(main, backend=backend, backend_options={"use_uvloop": sys.argv[1] == "uvloop"} if backend == "asyncio" else {})
"""

USED_IN_A_CHILD = """
async def body(pool):
    result = await pool.run(b"abc" * 100_000, [Echo()])
    buffer, taken = await pool.buffer(10).ready(), await pool.buffer(10).ready()
    taken.view[:] = b"0123456789"
    before = await pids(pool)
    pid = os.fork()
    if not pid:
        say(
            run=await attempt(lambda: pool.run(b"abc", [Echo()])),
            probe=await attempt(lambda: pool.probe(b"abc")),
            buffer=await attempt(lambda: pool.buffer(10)),
            receive=await attempt(lambda: pool.receive(chunks())),
            ready=await attempt(buffer.ready),
            view=await attempt(lambda: buffer.view),
            leave=await attempt(lambda: pool.__aexit__(None, None, None)),
            submitted=pool.statistics().submitted,
            data=bytes(result.data) == b"abc" * 100_000,
            taken=bytes(taken.view).decode(),
        )
        del result, buffer, taken  # deleting them in the child must not return blocks in the parent
        gc.collect()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert await pids(pool) == before, "the child killed a worker"
    assert bytes(result.data) == b"abc" * 100_000
    del result, buffer, taken
    await works(pool)
    say(leases=sum(held for holder, held in pool.statistics().leases.items() if holder != "preallocated"))
"""

ENDS_ITS_BLOCK = """
async def body(pool):
    before = await pids(pool)
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(pool.run, b"", [Wait(0.3)])
        await anyio.wait_all_tasks_blocked()
        pid = os.fork()
        if not pid:
            END
        assert await anyio.to_thread.run_sync(os.waitpid, pid, 0)
        assert all(os.path.exists(f"/proc/{pid}") for pid in before), "the child killed a worker"
    assert await pids(pool) == before
    await works(pool)
    say(completed=True)
"""

HAS_ITS_OWN = """
async def body(pool):
    before = await pids(pool)
    pid = os.fork()
    if not pid:
        async def live():
            async with Pool(2, plugins=[FaultsPlugin], memory_limit="128MiB") as own:
                assert not set(await pids(own)) & set(before)
                await works(own)
            say(own=True)
        thread = threading.Thread(target=anyio.run, args=[live], kwargs={"backend": backend})
        thread.start()
        thread.join()
        os._exit(7)
    assert os.waitstatus_to_exitcode(await anyio.to_thread.run_sync(lambda: os.waitpid(pid, 0)[1])) == 7
    assert await pids(pool) == before
    await works(pool)
"""

LIVES_ON = """
async def body(pool):
    found = await pids(pool)
    FORK
    say(pids=found, child=child)
    await anyio.sleep_forever()
"""

FORKS = {
    "fork": "child = os.fork()\n    if not child: threading.Event().wait()",
    "fork in a thread": """
    children = []
    def fork():
        children.append(os.fork())
        if not children[-1]: threading.Event().wait()
    threading.Thread(target=fork).start()
    while not children: await anyio.sleep(0.01)
    child = children[0]""",
    "multiprocessing": """
    process = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
    process.start()
    child = process.pid""",
    "subprocess": 'child = subprocess.Popen(["sleep", "3600"], close_fds=False).pid',
    "preexec_fn": 'child = subprocess.Popen(["sleep", "3600"], close_fds=False, preexec_fn=os.getpid).pid',
}


@contextmanager
def server(loop: str, body: str) -> Generator[subprocess.Popen[str]]:
    """A server in a session of its own, on that loop, whose body gets the pool."""
    command = [sys.executable, "-c", SERVER.replace("BODY", body), loop]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def told(loop: str, body: str) -> tuple[list[dict[str, Any]], str]:
    """What such a server said, and what it and its children wrote to stderr."""
    with server(loop, body) as process:
        said, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in said.splitlines()], errors


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forked_child_is_told_that_the_pool_is_not_its_own_and_the_parent_works_on(loop: str) -> None:
    (child, parent), _ = told(loop, USED_IN_A_CHILD)
    refused = {name: child.pop(name) for name in ("run", "probe", "buffer", "receive", "ready", "view")}
    assert set(refused.values()) == {"process"}, refused
    submitted = child.pop("submitted")
    assert submitted >= 3
    assert child == {"leave": "None", "data": True, "taken": "0123456789"}
    assert parent == {"leases": 0}


@pytest.mark.parametrize("end", ["sys.exit(3)", "return"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_forked_child_that_leaves_the_block_does_the_parent_no_harm(loop: str, end: str) -> None:
    said, errors = told(loop, ENDS_ITS_BLOCK.replace("END", end))
    assert said == [{"completed": True}], errors


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forked_child_can_have_a_pool_of_its_own(loop: str) -> None:
    said, errors = told(loop, HAS_ITS_OWN)
    assert said == [{"own": True}], errors


@pytest.mark.parametrize("way", FORKS)
@pytest.mark.parametrize("loop", LOOPS[:1])
def test_no_child_of_the_server_keeps_its_workers_alive(loop: str, way: str) -> None:
    with server(loop, LIVES_ON.replace("FORK", FORKS[way])) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        process.kill()
        deadline = time.monotonic() + 1.0
        while any(map(is_alive, said["pids"])):
            assert time.monotonic() < deadline, "a worker lives on one second after its server's death"
        assert is_alive(said["child"])


def test_forks_are_counted_in_the_child_only() -> None:
    before = generation()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, str(generation()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader) as pipe:
        assert int(pipe.read()) == before + 1
    assert generation() == before


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
