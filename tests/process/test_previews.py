"""Previews: an early output of the same task, before the result, that neither delays nor breaks it."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import anyio
import pytest
from second_plugin import Greet, GreetingPlugin
from sharing_plugin import Repeat, SharingPlugin

from offloop import InvalidTask, Operation, Pool, Result, TaskFailed, WorkerDied
from offloop.testing.faults import Echo, Emit, Exit, FaultsPlugin, Hang, HoldOn, KillOnce, Preview, Raise

pytestmark = pytest.mark.anyio


def is_free(pool: Pool) -> bool:
    gc.collect()
    numbers = pool.statistics()
    held = {holder for holder, count in numbers.leases.items() if count}
    return not (numbers.waiting or numbers.running or held - {"preallocated"})


@pytest.mark.every_loop
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_preview_comes_while_the_task_runs(anyio_backend: object, tmp_path: Path, is_async: bool) -> None:
    seen: list[bytes] = []
    release = tmp_path / "release"

    def on_preview(preview: Result) -> None:
        assert not seen
        assert preview.info.preview
        seen.append(bytes(preview))
        release.touch()  # the task cannot have ended before

    async def on_preview_async(preview: Result) -> None:
        await anyio.sleep(0)
        on_preview(preview)

    async with Pool(1, plugins=[FaultsPlugin, GreetingPlugin]) as pool:
        pipeline: list[Operation] = [Preview(5000), HoldOn(str(release)), Greet()]
        result = await pool.run(b"abc", pipeline, on_preview=on_preview_async if is_async else on_preview)
        assert (seen, bytes(result)) == ([b"\x02" * 5000], b"hello"), "the stages that follow are not applied to a preview"
        del result
        assert is_free(pool)


async def test_nothing_is_handed_over_without_a_receiver(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        assert bytes(await pool.run(b"abc", [Preview(), Echo()])) == b"abc"
        with pytest.raises(Exception, match="returned NoneType"):
            await pool.run(b"", [Preview(), Emit(3)], on_preview=lambda _: None)
        outcomes = await pool.run_many(b"abc", {"a": [Preview(), Echo()], "b": [Echo()]})
        assert [bytes(outcome.unwrap()) for outcome in outcomes.values()] == [b"abc", b"abc"]
        async with pool.stream(b"abc", [Preview(), Echo()]) as frames:
            assert [bytes(frame) async for frame in frames] == [b"abc"]
        del outcomes
        assert is_free(pool)


async def test_the_failure_after_a_preview_is_raised(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        for ending, error in ((Raise(), TaskFailed), (Exit(3), WorkerDied)):
            seen: list[int] = []
            with pytest.raises(error):
                await pool.run(b"", [Preview(9), ending], on_preview=lambda preview, seen=seen: seen.append(preview.nbytes))
            assert seen == [9]
        assert is_free(pool)


async def test_a_task_that_has_handed_over_a_preview_is_retried(anyio_backend: object, tmp_path: Path) -> None:
    seen: list[int] = []
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipeline: list[Operation] = [Preview(9), KillOnce(str(tmp_path / "mark")), Echo()]
        result = await pool.run(b"abc", pipeline, retries=1, on_preview=lambda preview: seen.append(preview.nbytes))
        assert (bytes(result), seen, pool.statistics().retried) == (b"abc", [9, 9], 1)


async def test_a_callback_that_raises_is_logged_and_the_task_goes_on(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    def on_preview(_: Result) -> None:
        raise RuntimeError("no page")

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with caplog.at_level(logging.WARNING, "offloop.previews"):
            assert bytes(await pool.run(b"abc", [Preview(), Preview(), Echo()], on_preview=on_preview)) == b"abc"
        (record,) = [record for record in caplog.records if record.name == "offloop.previews"]
        assert "no page" in str(record.exc_info and record.exc_info[1])


@pytest.mark.every_loop
async def test_a_call_that_is_cancelled_in_its_callback_ends_its_task(anyio_backend: object) -> None:
    async def on_preview(_: Result) -> None:
        scope.cancel()
        await anyio.sleep(60)

    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        with anyio.CancelScope() as scope:
            await pool.run(b"", [Preview(), Hang()], on_preview=on_preview)
        assert scope.cancelled_caught
        assert pool.statistics().cancelled == 1
        assert is_free(pool)


async def test_a_preview_outlives_its_task_and_its_pool(anyio_backend: object) -> None:
    kept: list[Result] = []
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await pool.run(b"", [Preview(5000), Echo()], on_preview=kept.append)
    assert bytes(kept[0]) == b"\x02" * 5000


async def test_a_result_goes_to_a_file_after_its_preview(anyio_backend: object, tmp_path: Path) -> None:
    seen: list[int] = []
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        written = await pool.run(
            b"abc", [Preview(7), Echo()], to=tmp_path / "a", on_preview=lambda preview: seen.append(preview.nbytes)
        )
    assert (seen, written.path, (tmp_path / "a").read_bytes()) == ([7], tmp_path / "a", b"abc")


async def test_previews_of_a_batch_are_outcomes_that_are_marked(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipelines: list[list[Operation]] = [[Preview(), Echo()], [Preview(), Raise()], [Echo()]]
        pairs = [(b"abc", pipeline) for pipeline in pipelines]
        for ordered in (True, False):
            async with pool.map(pairs * 10, ordered=ordered) as outcomes:
                found = [(outcome.index, outcome.preview, outcome.error is None) async for outcome in outcomes]
                assert outcomes.progress.done == 20
            for index in range(30):
                kinds = [(preview, good) for at, preview, good in found if at == index]
                assert kinds == ([(True, True), (False, index % 3 == 0)] if index % 3 < 2 else [(False, True)])
        assert is_free(pool)


async def test_the_preview_of_a_named_pipeline_has_its_name(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipelines: dict[str, list[Operation]] = {"a": [Echo()], "b": [Preview(9), Echo()], "c": [Preview(9), Raise()]}
        async with pool.run_many(b"abc", pipelines) as outcomes:
            found = [(name, outcome.preview, outcome.name, outcome.error is None) async for name, outcome in outcomes]
        assert found == [
            ("a", False, "a", True),
            ("b", True, "b", True),
            ("b", False, "b", True),
            ("c", True, "c", True),
            ("c", False, "c", False),
        ]
        assert is_free(pool)


async def test_a_processor_that_shares_work_names_the_pipeline_of_a_preview(anyio_backend: object) -> None:
    async with Pool(1, plugins=[SharingPlugin]) as pool:
        pipelines: dict[str, list[Operation]] = {name: [Repeat(2, preview=True)] for name in "abc"}
        async with pool.run_many(b"-", pipelines) as outcomes:
            found = [(name, outcome.preview) async for name, outcome in outcomes]
        assert found == [(name, preview) for name in "cba" for preview in (True, False)]


async def test_a_pool_in_threads_has_previews_too(anyio_backend: object) -> None:
    seen: list[bytes] = []
    async with Pool(1, plugins=[FaultsPlugin], inline=True) as pool:
        result = await pool.run(b"abc", [Preview(3), Echo()], on_preview=lambda preview: seen.append(bytes(preview)))
        assert (bytes(result), seen) == (b"abc", [b"\x02" * 3])


async def test_too_many_previews_are_refused(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with pytest.raises(InvalidTask, match="makes 9 previews"):
            await pool.run(b"", [Preview()] * 9)
        with pytest.raises(ValueError, match="the number of pipelines and previews=40"):
            pool.run_many(b"", {str(number): [Preview(), Echo()] for number in range(20)})
