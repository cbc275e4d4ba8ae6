"""`Pool.run_many`: several pipelines on one source, each with an outcome of its own."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from second_plugin import Greet, GreetingPlugin, Tag
from sharing_plugin import Repeat, SharingPlugin

from offloop import InvalidTask, Operation, Pool, PoolMisused, Result, TaskFailed, TaskTimeout, WorkerDied
from offloop.runtime.files.output_files import OutputFile
from offloop.testing.faults import Allocate, Echo, Emit, Exit, FaultsPlugin, Hang, Noop, Raise, Wait

pytestmark = pytest.mark.anyio


def is_free(pool: Pool) -> bool:
    gc.collect()
    numbers = pool.statistics()
    held = {holder for holder, count in numbers.leases.items() if count}
    return not (numbers.waiting or numbers.running or held - {"preallocated"})


def bytes_of(result: Result) -> bytes:
    return bytes(result)


async def test_each_pipeline_has_its_result(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin, GreetingPlugin]) as pool:
        pipelines: dict[str, list[Operation]] = {"echo": [Echo()], "big": [Allocate(100_000)], "greet": [Echo(), Greet()]}
        outcomes = await pool.run_many(b"abc" * 5000, pipelines)
        found = {name: bytes_of(outcome.unwrap()) for name, outcome in outcomes.items()}
        assert found == {"echo": b"abc" * 5000, "big": b"\x01" * 100_000, "greet": b"hello"}
        assert [(outcome.index, outcome.name) for outcome in outcomes.values()] == [(0, "echo"), (1, "big"), (2, "greet")]
        assert pool.statistics().completed == 1, "it is one task"
        del outcomes, found
        assert is_free(pool)


async def test_info_that_a_stage_adds_is_kept_by_the_stages_that_follow(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin, GreetingPlugin]) as pool:
        result = await pool.run(b"abc", [Tag("run"), Echo()])
        assert dict(result.info) == {"tag": "run", "media_type": "application/octet-stream"}, "Echo says the type"
        tagged: dict[str, list[Operation]] = {"tagged": [Tag("one"), Echo()], "plain": [Echo()]}
        outcomes = await pool.run_many(b"abc", tagged)
        assert outcomes["tagged"].unwrap().info.tag == "one"
        assert "tag" not in outcomes["plain"].unwrap().info, "the info of a pipeline is its own"
        async with pool.stream(b"abc", [Tag("frame"), Emit(2)]) as frames:
            assert [frame.info.tag async for frame in frames] == ["frame"] * 2


@pytest.mark.every_loop
async def test_each_outcome_comes_as_soon_as_it_is_ready(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        async with pool.run_many(b"abc", {"first": [Echo()], "never": [Hang()]}) as outcomes:
            name, outcome = await anext(outcomes)
            assert (name, bytes_of(outcome.unwrap()), pool.statistics().running) == ("first", b"abc", 1)
            del outcome
        assert is_free(pool)
        assert pool.statistics().cancelled == 1


async def test_a_pipeline_that_fails_leaves_the_others(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        outcomes = await pool.run_many(b"abc", {"bad": [Raise("task_failed")], "worse": [Raise()], "good": [Echo()]})
        errors = {name: outcome.error for name, outcome in outcomes.items()}
        assert isinstance(errors["bad"], TaskFailed)
        assert (errors["bad"].code, errors["good"]) == ("refused", None)
        assert isinstance(errors["worse"], TaskFailed)
        assert "as ordered" in (errors["worse"].remote_traceback or "")
        all_bad = await pool.run_many(b"abc", {"a": [Raise()], "b": [Raise()]})
        assert [type(outcome.error) for outcome in all_bad.values()] == [TaskFailed, TaskFailed]


@pytest.mark.parametrize(("ending", "error"), [(Exit(3), WorkerDied), (Hang(), TaskTimeout)])
async def test_the_failure_of_the_task_is_that_of_the_pipelines_that_are_left(
    anyio_backend: object, ending: Operation, error: type[Exception]
) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        pipelines: dict[str, list[Operation]] = {"done": [Echo()], "fatal": [ending], "late": [Echo()]}
        outcomes = await pool.run_many(b"abc", pipelines, timeout=0.5, retries=2)
        assert bytes_of(outcomes["done"].unwrap()) == b"abc"
        assert [type(outcomes[name].error) for name in ("fatal", "late")] == [error, error]
        assert outcomes["fatal"].error is not outcomes["late"].error
        assert pool.statistics().retried == 0


async def test_a_processor_may_share_its_work(anyio_backend: object) -> None:
    async with Pool(1, plugins=[SharingPlugin, FaultsPlugin]) as pool:
        pipelines: dict[str, list[Operation]] = {
            "two": [Repeat(2)],
            "bad": [Repeat(13)],
            "other": [Noop()],
            "six": [Repeat(3), Repeat(2), Echo()],
            "three": [Repeat(3)],
        }
        async with pool.run_many(b"ab", pipelines) as outcomes:
            found = {name: outcome async for name, outcome in outcomes}
        assert list(found) == ["three", "bad", "two", "other", "six"], "the processor chose its order"
        assert [bytes_of(found[name].unwrap()) for name in ("three", "six")] == [b"ab" * 3, b"ab" * 6]
        assert bytes_of(found["two"].unwrap()) == b"abab"
        assert isinstance(found["bad"].error, TaskFailed)
        assert found["bad"].error.code == "unlucky"


async def test_an_error_of_a_sharing_processor_is_that_of_the_pipelines_that_are_left(anyio_backend: object) -> None:
    async with Pool(1, plugins=[SharingPlugin]) as pool:
        outcomes = await pool.run_many(b"raise", {"a": [Repeat(1)], "b": [Repeat(1)]})
        assert bytes_of(outcomes["a"].unwrap()) == b"raise"
        assert "the source is gone" in str(outcomes["b"].error)
        outcomes = await pool.run_many(b"forget", {"a": [Repeat(1)], "b": [Repeat(1)]})
        assert all("no result for a pipeline" in str(outcome.error) for outcome in outcomes.values())


async def test_outputs_that_a_processor_emits_are_no_results(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        outcomes = await pool.run_many(b"", {"a": [Emit(3, then="return")], "b": [Echo()]})
        assert outcomes["a"].unwrap().info.index == 3


async def test_results_go_to_files(anyio_backend: object, tmp_path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        paths = {"echo": tmp_path / "a.bin", "bad": tmp_path / "missing" / "b.bin"}
        pipelines: dict[str, list[Operation]] = {"echo": [Echo()], "bad": [Echo()], "memory": [Echo()]}
        outcomes = await pool.run_many(b"abc", pipelines, to=paths)
        result = outcomes["echo"].unwrap()
        assert (result.path, result.nbytes, paths["echo"].read_bytes()) == (paths["echo"], 3, b"abc")
        assert isinstance(outcomes["bad"].error, TaskFailed)
        assert outcomes["bad"].error.code == "cannot_write"
        assert bytes_of(outcomes["memory"].unwrap()) == b"abc"
        assert list(tmp_path.iterdir()) == [paths["echo"]]


@pytest.mark.every_loop
async def test_a_reader_that_is_cancelled_while_a_file_is_written_reads_its_outcome_again(
    anyio_backend: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = anyio.CancelScope()
    write = OutputFile.write

    def slow_write(file: OutputFile, data: memoryview) -> None:
        anyio.from_thread.run_sync(cancelled.cancel)
        write(file, data)

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.run_many(b"abc", {"a": [Echo()]}, to={"a": tmp_path / "a"}) as outcomes:
            monkeypatch.setattr(OutputFile, "write", slow_write)
            with cancelled:
                await anext(outcomes)
            assert cancelled.cancelled_caught
            monkeypatch.undo()
            name, outcome = await anext(outcomes)
            assert (name, outcome.unwrap().path) == ("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"abc"


async def test_what_cannot_be_asked_is_refused_by_the_call(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        wrong: list[tuple[dict[str, Any], type[Exception]]] = [
            ({}, ValueError),
            ({str(index): [Noop()] for index in range(33)}, ValueError),
            ({"": [Noop()]}, ValueError),
            ({"x" * 101: [Noop()]}, ValueError),
            ({"a": []}, InvalidTask),
            ({"a": Noop()}, InvalidTask),
        ]
        for pipelines, error in wrong:
            with pytest.raises(error):
                pool.run_many(b"", pipelines)
        with pytest.raises(ValueError, match="there is no pipeline of this name"):
            pool.run_many(b"", {"a": [Noop()]}, to={"b": "/tmp/x"})
        many = pool.run_many(b"", {"a": [Noop()]})
        with pytest.raises(PoolMisused, match="inside its block"):
            await anext(many)
        await many
        with pytest.raises(PoolMisused, match="only once"):
            await many


@pytest.mark.every_loop
async def test_fifty_are_cancelled_at_once(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:

        async def run() -> None:
            await pool.run_many(bytes(5000), {"a": [Wait(0.01), Echo()], "b": [Wait(0.01), Echo()]})

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(run)
            await anyio.sleep(0.1)
            tasks.cancel_scope.cancel()
        assert is_free(pool)
