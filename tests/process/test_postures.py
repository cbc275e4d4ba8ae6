"""What a pool says about its sandbox, on this kernel and on older ones, and when it refuses to run."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from typing import Any

import pytest
from hostile_plugin import CarelessPlugin, Escape
from old_kernel_worker import MACHINE, MAX_ABI, NO_SECCOMP

from offloop import Pool, PoolClosed, SandboxReported, WorkerDied, WorkerGroup
from offloop.runtime.workers.command_line import WorkerProgram
from offloop.runtime.workers.process import ProcessLauncher
from offloop.sandbox import LAYERS
from offloop.testing import pool_with
from offloop.testing.faults import Echo, Exit, FaultsPlugin, Inspect, Noop
from offloop.worker.isolation.kernel import Kernel

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"use_uvloop": False}  # because a sandbox is the same in every loop


def this_abi() -> int:
    try:
        return Kernel().landlock_abi()
    except OSError:
        return 0


needs_landlock = pytest.mark.skipif(this_abi() == 0, reason="this kernel has no Landlock")


def pool_on_an_old_kernel(variables: dict[str, str], **settings: Any) -> Pool:
    program = WorkerProgram(environment=variables, module="old_kernel_worker")
    return pool_with(ProcessLauncher(program), 1, plugins=[FaultsPlugin], memory_limit="128MiB", **settings)


@pytest.mark.parametrize(
    ("abi", "scope"),
    [
        (1, ("files",)),
        (2, ("files", "renaming")),
        (3, ("files", "renaming", "truncation")),
        (4, ("files", "renaming", "truncation", "tcp")),
        (5, ("files", "renaming", "truncation", "devices", "tcp")),
        (6, ("files", "renaming", "truncation", "devices", "tcp", "abstract sockets", "signals")),
    ],
)
async def test_each_version_of_landlock_restricts_what_it_can(abi: int, scope: tuple[str, ...]) -> None:
    if this_abi() < abi:
        pytest.skip(f"this kernel has Landlock ABI {this_abi()}")
    async with pool_on_an_old_kernel({MAX_ABI: str(abi)}, sandbox="strict") as pool:
        await pool.run(b"", [Noop()])
        posture = pool.sandbox
    assert (posture.landlock_abi, posture.landlock_scope, posture.landlock_stages) == (abi, scope, 2)
    assert posture.layers == LAYERS


OLD_KERNELS = [
    ({MAX_ABI: "0"}, {"landlock"}),
    ({NO_SECCOMP: "1"}, {"seccomp"}),
    ({MACHINE: "riscv64"}, {"seccomp"}),
    ({MAX_ABI: "0", NO_SECCOMP: "1"}, {"landlock", "seccomp"}),
]


@needs_landlock
@pytest.mark.parametrize(("variables", "missing"), OLD_KERNELS)
async def test_auto_runs_with_the_layers_that_there_are_and_says_what_is_missing(
    variables: dict[str, str], missing: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offloop.supervisor")
    async with pool_on_an_old_kernel(variables) as pool:
        await pool.run(b"", [Noop()])
        posture = pool.sandbox
        assert posture == pool.statistics().groups["default"].sandbox
    assert missing <= posture.missing.keys()
    assert set(posture.layers) == set(LAYERS) - posture.missing.keys()
    (line,) = [record for record in caplog.records if record.getMessage().startswith("sandbox of the worker group default: ")]
    assert line.levelno == logging.WARNING
    assert all(f"without {layer}: " in line.getMessage() for layer in missing)


@needs_landlock
@pytest.mark.parametrize(("variables", "missing"), OLD_KERNELS)
async def test_strict_refuses_to_run_and_names_the_missing_layers(variables: dict[str, str], missing: set[str]) -> None:
    pool = pool_on_an_old_kernel(variables, sandbox="strict")
    with pytest.raises(WorkerDied, match="sandbox='strict', and its sandbox lacks: ") as caught:
        async with pool:
            pass
    assert all(f"{layer} (" in str(caught.value) for layer in missing)


async def test_off_has_no_layer_and_the_whole_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="128MiB", sandbox="off") as pool:
        await pool.run(b"", [Noop()])
        posture = pool.sandbox
    assert (posture.mode, posture.layers, posture.missing, posture.environment) == ("off", (), {}, "inherited")
    assert str(posture) == "off"


async def test_a_group_has_a_sandbox_of_its_own_and_its_posture_is_an_event() -> None:
    group = WorkerGroup("careless", sandbox="off")
    pool = Pool(1, plugins=[FaultsPlugin, CarelessPlugin], groups=[group], memory_limit="128MiB")
    with pytest.raises(PoolClosed):
        _ = pool.sandbox
    async with pool:
        events = pool.events()
        await pool.run(b"", [Escape("loading")])
        careless = pool.statistics().groups["careless"].sandbox
        assert careless is not None
        assert (pool.sandbox.mode, careless.mode) == ("auto", "off")
    (reported,) = [event async for event in events if isinstance(event, SandboxReported)]
    assert (reported.group, reported.posture) == ("careless", careless)


@pytest.mark.parametrize(("isolation", "of_two_tenants", "of_one"), [("pool", 1, 1), ("tenant", 2, 1), ("task", 2, 2)])
async def test_a_worker_serves_the_tasks_that_its_isolation_allows(isolation: Any, of_two_tenants: int, of_one: int) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="128MiB", isolation=isolation) as pool:
        pids = [(await pool.run(b"", [Inspect()], tenant=tenant)).info.pid for tenant in ("a", "a", "b")]
    assert (len(set(pids[1:])), len(set(pids[:2]))) == (of_two_tenants, of_one)


WALL = ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "--die-with-parent")


def can_use_the_wall() -> bool:
    if shutil.which("bwrap") is None:
        return False
    return subprocess.run([*WALL, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_use_the_wall(), reason="bubblewrap is not installed, or may make no namespaces here")
async def test_workers_start_in_namespaces_of_bubblewrap_and_end_with_it() -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="128MiB", spawn_prefix=WALL) as pool:
        for _ in range(2):
            assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
            assert (await pool.run(b"", [Inspect()])).info.pid <= 3, "the worker is among the first of its PID namespace"
            with pytest.raises(WorkerDied):
                await pool.run(b"", [Exit(3)])
        assert pool.sandbox.filtered_calls or pool.sandbox.missing


IS_DUMPABLE = """
import anyio, ctypes
from offloop import Pool
from offloop.runtime.proc_entries import ClosedProcEntries
from offloop.testing.faults import FaultsPlugin

def is_dumpable():
    return bool(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""

ENTRIES = """
assert is_dumpable()
first, second = ClosedProcEntries(), ClosedProcEntries()
assert not is_dumpable()
first.reopen()
first.reopen()
assert not is_dumpable()
second.reopen()
assert is_dumpable()
"""

POOLS = """
async def main():
    for mode in ("auto", "off"):
        async with Pool(1, plugins=[FaultsPlugin], memory_limit="128MiB", sandbox=mode):
            assert is_dumpable() == (mode == "off")
        assert is_dumpable()

anyio.run(main)
"""


@pytest.mark.parametrize("script", [ENTRIES, POOLS], ids=["entries", "pools"])
def test_the_servers_entries_in_proc_are_closed_while_a_pool_has_a_sandbox(script: str) -> None:
    # in a process of its own, because a pool that another test never left keeps the entries of this one closed
    command = [sys.executable, "-c", IS_DUMPABLE + script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
