"""Models that misbehave in a real pool: each costs its task, at most a worker, and never the pool."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import numpy as np
import pytest

from offloop import OffloopError, Pool, TaskFailed, TaskTimeout, WorkerMoved
from offloop_onnx import OnnxPlugin, RemoveBackground, RunModel
from offloop_onnx.processor.sessions import Session
from offloop_onnx.shipped_models import PEOPLE

from .conftest import Array
from .tiny_networks import constant, network, save

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"]),
]

ONE = np.ones(1, "f4")
TENSOR: dict[str, Any] = {"input": "tensor", "output": "tensor"}
Nodes = list[tuple[str, Sequence[str], str, dict[str, Any]]]


def multiplications(side: int, count: int) -> bytes:
    """Returns a network that multiplies a matrix with itself, again and again."""
    nodes: Nodes = [("Expand", ["image", "sides"], "m0", {})]
    nodes += [("MatMul", [f"m{index}", "m0"], f"m{index + 1}", {}) for index in range(count)]
    nodes.append(("ReduceMax", [f"m{count}"], "large", {"keepdims": 0}))
    nodes.append(("Mul", ["large", "zero"], "result", {}))
    return network(nodes, shape=["n"], constants=[constant("sides", [side, side], "i8"), constant("zero", 0.0)])


def slow_to_open() -> bytes:
    """Returns a network that adds 0. While it is opened, ONNX Runtime computes a part that does not depend on the input."""
    nodes: Nodes = [("MatMul", [f"m{index}", "m0"], f"m{index + 1}", {}) for index in range(1000)]
    nodes += [("ReduceMax", ["m1000"], "large", {"keepdims": 0}), ("Mul", ["large", "zero"], "nothing", {})]
    nodes.append(("Add", ["image", "nothing"], "result", {}))
    return network(nodes, shape=["n"], constants=[constant("m0", np.eye(300, dtype="f4")), constant("zero", 0.0)])


async def failure_of(pool: Pool, source: Array, *operations: Any, **options: Any) -> OffloopError:
    with pytest.raises(OffloopError) as caught:
        await pool.run(source, list(operations), **options)
    return caught.value


async def test_a_model_that_misbehaves_fails_its_task_and_the_worker_goes_on(anyio_backend: object, tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), "u1")
    truncated = save(tmp_path, Path(PEOPLE.path).read_bytes()[:150_000], size=(256, 256))
    changed = save(tmp_path, network([("Identity", ["image"], "result", {})], shape=["n"]), **TENSOR)
    Path(changed.path).write_bytes(b"other bytes")
    wrong_shape = save(tmp_path, network([("Identity", ["image"], "result", {})], shape=[1, 3, 8, 8]), size=(8, 8))
    not_finite = save(tmp_path, network([("Log", ["image"], "result", {})], shape=["n"]), **TENSOR)
    greedy = save(
        tmp_path,
        network(
            [("Expand", ["image", "sides"], "large", {}), ("ReduceMax", ["large"], "result", {"keepdims": 0})],
            shape=["n"],
            constants=[constant("sides", [5_000_000, 1000], "i8")],  # 20 GB
        ),
        peak_bytes=30_000_000,
        **TENSOR,
    )
    slow = save(tmp_path, multiplications(300, 3000), peak_bytes=30_000_000, **TENSOR)
    async with Pool(1, plugins=[OnnxPlugin(model_directories=[tmp_path])], memory_limit="1GiB", grace=10) as pool:
        failures = [
            await failure_of(pool, picture, RemoveBackground(model=truncated)),
            await failure_of(pool, ONE, RunModel(changed)),
            await failure_of(pool, picture, RemoveBackground(model=wrong_shape)),
            await failure_of(pool, -ONE, RunModel(not_finite)),
            await failure_of(pool, ONE, RunModel(greedy)),
        ]
        assert [getattr(failure, "code", failure) for failure in failures] == [
            "model_broken",
            "model_refused",
            "model_failed",
            "model_failed",
            "memory_limit",
        ]
        stopped = await failure_of(pool, ONE, RunModel(slow), timeout=0.3)
        assert isinstance(stopped, TaskTimeout)
        assert stopped.obeyed
        assert (await pool.run(picture, [RemoveBackground()])).array().shape == (64, 64, 4)
        assert pool.statistics().worker_crashes == 0


async def test_a_run_that_does_not_stop_is_killed_and_the_next_task_has_a_new_worker(
    anyio_backend: object, tmp_path: Path
) -> None:
    endless = save(tmp_path, multiplications(4500, 1), peak_bytes=400_000_000, **TENSOR)  # one node of many seconds
    plugin = OnnxPlugin(model_directories=[tmp_path], models=[endless])
    async with Pool(1, plugins=[plugin], memory_limit="1GiB") as pool:
        killed = await failure_of(pool, ONE, RunModel(endless), timeout=0.8)
        assert isinstance(killed, TaskTimeout)
        assert not killed.obeyed
        assert (await pool.run(np.zeros((64, 64, 3), "u1"), [RemoveBackground()])).array().shape == (64, 64, 4)
        assert pool.statistics().worker_starts >= 2


async def test_a_model_of_the_plugin_is_open_before_the_first_task(anyio_backend: object, tmp_path: Path) -> None:
    own = save(tmp_path, network([("Add", ["image", "image"], "result", {})], shape=["n"]), **TENSOR)
    broken = save(tmp_path, b"no model", **TENSOR)
    async with Pool(1, plugins=[OnnxPlugin(model_directories=[tmp_path], models=[own, broken])], timeout=20) as pool:
        await pool.run(np.zeros((8, 8, 3), "u1"), [RemoveBackground()])  # a worker is there now
        Path(own.path).unlink()
        assert (await pool.run(ONE, [RunModel(own)])).array().tolist() == [2.0]
        error = await failure_of(pool, ONE, RunModel(broken))
        assert isinstance(error, TaskFailed)
        assert error.code == "model_broken"


async def test_no_time_limit_pays_for_a_load_and_a_worker_that_is_killed_while_it_loads_costs_no_task(
    anyio_backend: object, tmp_path: Path
) -> None:
    slow = save(tmp_path, slow_to_open(), **TENSOR)
    started = monotonic()
    Session(slow, Path(slow.path).read_bytes(), 1)
    load_s = monotonic() - started
    pids: list[int] = []
    load_starts: list[float] = []
    async with (
        Pool(1, plugins=[OnnxPlugin(model_directories=[tmp_path], models=[slow])], memory_limit="1GiB") as pool,
        anyio.create_task_group() as group,
    ):

        async def kill_the_first_that_loads() -> None:
            async for event in pool.events():
                if isinstance(event, WorkerMoved) and (event.group, event.event) == ("onnx", "LoadingBegun"):
                    assert event.pid is not None
                    pids.append(event.pid)
                    load_starts.append(event.at)
                    if len(pids) == 1:
                        os.kill(event.pid, signal.SIGKILL)
                if isinstance(event, WorkerMoved) and (event.group, event.event) == ("onnx", "Ready"):
                    load_starts.append(event.at)
                    return

        group.start_soon(kill_the_first_that_loads)
        await anyio.wait_all_tasks_blocked()
        result = await pool.run(ONE, [RunModel(slow)], timeout=load_s / 4)
        assert result.array().tolist() == [1]
        _, begun, ready = load_starts
        assert ready - begun > load_s / 4
        assert len(set(pids)) == 2
        assert pool.statistics().completed == 1
