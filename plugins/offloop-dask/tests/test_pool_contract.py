"""One contract for every pool: the same calls, results and errors on one machine and on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cluster_jobs
import numpy as np
import pytest
from cluster_pools import NODE, PLUGINS, until

from offloop import (
    AsyncPool,
    Attachment,
    InvalidTask,
    Outcome,
    PluginError,
    Pool,
    PoolClosed,
    Progress,
    Result,
    TaskFailed,
    TaskTimeout,
    WorkerDied,
)
from offloop.testing import assert_books_balance
from offloop.testing.faults import Allocate, Echo, Emit, Exit, Hang, HoldOn, Inspect, Noop, Preview, Raise, Wait
from offloop.testing.faults import Progress as Report
from offloop_dask import ClusterPool
from offloop_vips import Raw, Resize, Watermark, Webp

from .conftest import PHOTOS, Cluster

pytestmark = pytest.mark.anyio

Test = Callable[[AsyncPool], Awaitable[None]]


async def the_result_has_bytes_info_and_times(pool: AsyncPool) -> None:
    result = await pool.run(b"some bytes", [Echo()])
    assert bytes(result) == b"some bytes"
    assert isinstance(result, Result)
    assert result.data.readonly
    timings = result.timings
    assert timings.queued <= timings.started <= timings.finished
    assert (await pool.run(b"", [Inspect()])).info["pid"] > 0


async def a_long_source_and_a_long_result_arrive_whole(pool: AsyncPool) -> None:
    data = np.random.default_rng(1).bytes(9_000_001)
    assert bytes(await pool.run(data, [Echo()])) == data


async def sources_are_bytes_paths_arrays_and_results(pool: AsyncPool, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"in a file")
    assert bytes(await pool.run(tmp_path / "source", [Echo()])) == b"in a file"
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    echoed = await pool.run(array, [Echo()])
    assert bytes(echoed) == array.tobytes()
    assert bytes(await pool.run(echoed, [Echo()])) == array.tobytes()
    assert bytes(await pool.run(array[:, ::2], [Echo()])) == array[:, ::2].tobytes()
    assert bytes(await pool.run(b"", [Echo()])) == b""
    with pytest.raises(InvalidTask):
        await pool.run("a text", [Echo()])
    with pytest.raises(InvalidTask, match="cannot be read"):
        await pool.run(tmp_path / "missing", [Echo()])


async def pictures_are_sources_and_results(pool: AsyncPool) -> None:
    pixels = await pool.run(PHOTOS / "coffee.webp", [Resize(300), Raw()])
    assert pixels.array().shape == (200, 300, 3)
    assert (await pool.run(pixels, [Resize(30), Webp()])).info.width == 30
    assert (await pool.run(pixels.array(), [Resize(30), Webp()])).info.width == 30
    header = await pool.probe(PHOTOS / "coffee.webp")
    assert (header.media_type, header.width, header.height) == ("image/webp", 600, 400)
    marked = await pool.run(pixels, [Watermark(Attachment(PHOTOS / "rocket.jpg")), Webp()])
    assert marked.info.width == 300


async def a_result_goes_to_a_file(pool: AsyncPool, tmp_path: Path) -> None:
    result = await pool.run(b"kept", [Echo()], to=tmp_path / "kept")
    assert result.path == tmp_path / "kept"
    assert result.nbytes == 4
    assert len(result.data) == 0
    assert (tmp_path / "kept").read_bytes() == b"kept"
    with pytest.raises(TaskFailed) as caught:
        await pool.run(b"lost", [Echo()], to=tmp_path / "missing" / "file")
    assert caught.value.code == "cannot_write"


async def errors_have_their_types_texts_and_notes(pool: AsyncPool) -> None:
    with pytest.raises(TaskFailed) as failed:
        await pool.run(b"", [Raise("ordinary")])
    assert failed.value.code == "exception"
    assert failed.value.exception_type == "ValueError"
    assert "Traceback" in "".join(failed.value.__notes__)
    with pytest.raises(WorkerDied) as died:
        await pool.run(b"", [Exit(3)])
    assert died.value.exit_code == 3
    assert died.value.report is not None
    assert died.value.report.exit_code == 3
    assert "exited with code 3" in str(died.value)
    with pytest.raises(InvalidTask):
        await pool.run(b"", [])
    with pytest.raises(InvalidTask):
        await pool.run(b"", Noop())  # pyright: ignore[reportArgumentType] (the mistake is the subject)
    with pytest.raises(ValueError, match="timeout"):
        await pool.run(b"", [Noop()], timeout=-1)


async def a_timeout_stops_the_task(pool: AsyncPool) -> None:
    with pytest.raises(TaskTimeout) as caught:
        await pool.run(b"", [Hang()], timeout=0.1)
    assert caught.value.timeout_s == 0.1
    assert not caught.value.obeyed


async def a_cancelled_call_stops_the_task(pool: AsyncPool, tmp_path: Path) -> None:
    task = asyncio.ensure_future(pool.run(b"", [HoldOn(str(tmp_path / "never"))]))
    while not pool.statistics().running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.statistics().running == 0


async def a_retry_gives_the_task_to_another_worker(pool: AsyncPool, tmp_path: Path) -> None:
    from offloop.testing.faults import KillOnce

    result = await pool.run(b"again", [KillOnce(str(tmp_path / "mark")), Echo()], retries=1)
    assert bytes(result) == b"again"


async def progress_rises_to_one(pool: AsyncPool) -> None:
    seen: list[Progress] = []
    await pool.run(b"", [Report(0.5), Wait(0.5)], on_progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert 0.5 in fractions
    assert fractions[-1] == 1.0


async def a_waiting_task_says_what_it_waits_for_and_what_it_costs(pool: AsyncPool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    workers = NODE["workers"] * len(getattr(pool.statistics(), "nodes", [None]))
    holding = [asyncio.ensure_future(pool.run(b"", [HoldOn(str(gate))])) for _ in range(workers)]
    while pool.statistics().running < len(holding):
        await asyncio.sleep(0)
    seen: list[Progress] = []
    picture = PHOTOS / "coffee.webp"
    waiting = asyncio.ensure_future(pool.run(picture, [Resize(30), Webp()], on_progress=seen.append))
    while not seen:
        await asyncio.sleep(0)
    gate.touch()
    await asyncio.gather(*holding, waiting)
    assert seen[0].waits_for == "worker"
    assert seen[0].cost_s
    assert (seen[-1].waits_for, seen[-1].fraction) == (None, 1.0)


async def previews_come_before_the_result(pool: AsyncPool) -> None:
    seen: list[int] = []
    result = await pool.run(b"", [Preview(100)], on_preview=lambda preview: seen.append(preview.nbytes))
    assert seen == [100]
    assert isinstance(result, Result)


async def map_gives_each_source_one_outcome(pool: AsyncPool) -> None:
    sources = [b"%d" % number for number in range(30)]
    async with pool.map(iter(sources), [Echo()], ordered=True) as outcomes:
        found = [bytes(outcome.unwrap()) async for outcome in outcomes]
    assert found == sources
    assert outcomes.progress.done == 30
    assert outcomes.progress.fraction == 1.0
    pairs: list[Any] = [(b"", [Noop()]), (b"", [Raise("ordinary")])]
    async with pool.map(pairs) as outcomes:
        errors = [type(outcome.error) async for outcome in outcomes]
    assert sorted(kind.__name__ for kind in errors) == ["NoneType", "TaskFailed"]


async def the_error_of_an_iterator_follows_its_outcomes(pool: AsyncPool) -> None:
    def sources() -> Any:
        yield b"first"
        raise LookupError("no second one")

    seen: list[Outcome[Any]] = []
    with pytest.raises(LookupError):
        async with pool.map(sources(), [Echo()]) as outcomes:
            async for outcome in outcomes:
                seen += [outcome]
    assert [bytes(outcome.unwrap()) for outcome in seen] == [b"first"]


async def run_many_gives_named_outcomes(pool: AsyncPool) -> None:
    outcomes = await pool.run_many(b"once", {"a": [Echo()], "b": [Raise("task_failed")], "c": [Allocate(200_000)]})
    assert list(outcomes) == ["a", "b", "c"]
    assert bytes(outcomes["a"].unwrap()) == b"once"
    assert isinstance(outcomes["b"].error, TaskFailed)
    assert outcomes["c"].unwrap().nbytes == 200_000
    async with pool.run_many(b"x", {"a": [Echo()], "b": [Exit(4)]}) as named:
        found = {name: outcome async for name, outcome in named}
    assert isinstance(found["b"].error, WorkerDied)
    with pytest.raises(InvalidTask):
        await pool.run_many(b"", {"a": []})


async def functions_are_called(pool: AsyncPool) -> None:
    assert await pool.call(cluster_jobs.add, 1, 2) == 3
    array = np.arange(100_000, dtype=np.float32)
    assert (await pool.call(cluster_jobs.double, array) == array * 2).all()
    assert await pool.call(cluster_jobs.lengths, b"abc", b"x" * 100_000) == [3, 100_000]
    with pytest.raises(InvalidTask, match="the argument left"):
        await pool.call(cluster_jobs.add, "one", 2)
    with pytest.raises(TaskFailed) as caught:
        await pool.call(cluster_jobs.fail, "reason")
    assert caught.value.exception_type == "LookupError"
    assert "cluster_jobs.fail" in "".join(caught.value.__notes__)


async def probe_needs_a_plugin_that_knows_the_format(pool: AsyncPool) -> None:
    with pytest.raises(TaskFailed) as caught:
        await pool.probe(b"no picture")
    assert caught.value.code == "unsupported_format"


async def a_pipeline_without_a_result_is_an_error_of_its_plugin(pool: AsyncPool) -> None:
    with pytest.raises(PluginError) as caught:
        await pool.run(b"", [Emit(1)])
    assert caught.value.plugin == "faults"


CONTRACT: list[Any] = [
    the_result_has_bytes_info_and_times,
    a_long_source_and_a_long_result_arrive_whole,
    sources_are_bytes_paths_arrays_and_results,
    pictures_are_sources_and_results,
    a_result_goes_to_a_file,
    errors_have_their_types_texts_and_notes,
    a_timeout_stops_the_task,
    a_cancelled_call_stops_the_task,
    a_retry_gives_the_task_to_another_worker,
    progress_rises_to_one,
    a_waiting_task_says_what_it_waits_for_and_what_it_costs,
    previews_come_before_the_result,
    map_gives_each_source_one_outcome,
    the_error_of_an_iterator_follows_its_outcomes,
    run_many_gives_named_outcomes,
    functions_are_called,
    probe_needs_a_plugin_that_knows_the_format,
    a_pipeline_without_a_result_is_an_error_of_its_plugin,
]


async def keep(pool: AsyncPool, tmp_path: Path) -> None:
    """Every rule of the contract, on one pool; then the pool is drained."""
    for number, rule in enumerate(CONTRACT):
        folder = tmp_path / str(number)
        folder.mkdir()
        has_folder = "tmp_path" in rule.__annotations__
        try:
            await (rule(pool, folder) if has_folder else rule(pool))
        except BaseException as error:
            error.add_note(f"the rule was {rule.__name__}")
            raise
    statistics = pool.statistics()
    assert_books_balance(statistics)
    assert statistics.completed > 40
    waiting = asyncio.ensure_future(pool.run(b"the last one", [Echo()]))
    while not pool.statistics().submitted > statistics.submitted:
        await asyncio.sleep(0)
    assert await pool.drain(20)
    assert bytes(await waiting) == b"the last one"
    with pytest.raises(PoolClosed):
        await pool.run(b"", [Noop()])
    assert_books_balance(pool.statistics())


async def test_the_pool_of_one_machine_keeps_the_contract(tmp_path: Path) -> None:
    async with Pool(plugins=PLUGINS, quarantine_after=None, **NODE) as pool:
        await keep(pool, tmp_path)


@pytest.mark.parametrize("dispatch", ["dask", "direct"])
async def test_the_pool_of_a_cluster_keeps_the_contract(cluster: Cluster, dispatch: Any, tmp_path: Path) -> None:
    node = {**NODE, "quarantine_after": None}
    async with ClusterPool(cluster.address, plugins=PLUGINS, node=node, linger=0, dispatch=dispatch) as pool:
        await until(lambda: len(pool.statistics().nodes) == len(cluster.nodes))
        await keep(pool, tmp_path)
