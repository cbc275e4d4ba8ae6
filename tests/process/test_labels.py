"""Labels of a task: in the worker, in each log line of its worker, in events and in the notes of errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import jobs
import pytest
from logging_plugin import LoggingPlugin, Talk

from offloop import InvalidTask, OffloopError, Pool, TaskEnded, TaskFailed, TaskTimeout, WorkerCrashed, WorkerDied, WorkerMoved
from offloop.testing.faults import Exit, FaultsPlugin, Hang, Noop

pytestmark = pytest.mark.anyio

LABELS = {"request_id": "4711", "user": "ä\n"}
NOTE = "labels: request_id=4711, user=\\xe4\\n"


@pytest.fixture
async def pool(anyio_backend: object) -> Any:
    async with Pool(1, plugins=[FaultsPlugin, LoggingPlugin, "functions"], memory_limit="256MiB") as pool:
        yield pool


async def test_a_function_sees_the_labels_of_each_kind_of_call(pool: Pool) -> None:
    assert await pool.call(jobs.labels_of, labels=LABELS) == LABELS
    assert await pool.call(jobs.labels_of) == {}
    async with pool.map_call(jobs.labels_of, [(), ()], labels=LABELS) as outcomes:
        assert [outcome.unwrap() async for outcome in outcomes] == [LABELS, LABELS]
    async with pool.stream_call(jobs.labels_again, 2, labels=LABELS) as values:
        assert [value async for value in values] == [LABELS, LABELS]
    future = pool.as_executor(labels=LABELS).submit(jobs.labels_of)  # pyright: ignore[reportCallIssue] (the worker gives the context)
    while not future.done():
        await anyio.lowlevel.checkpoint()
    assert future.result() == LABELS


async def test_every_line_of_a_worker_has_the_labels_of_its_task(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    await pool.run(b"", [Talk("first")], labels=LABELS)
    await pool.call(jobs.talk, "second", labels={"request_id": "4712"})
    await pool.run(b"", [Talk("third")])
    await said(caplog, lambda text: "printed: third" in text)
    await said(caplog, lambda text: "logged second" in text)
    by_text = {record.getMessage().rpartition(": ")[2]: record for record in caplog.records if record.name == "offloop.worker"}
    first: Any = next(record for record in caplog.records if record.getMessage().endswith("printed: first"))
    assert first.getMessage() == "worker 0, task 1, request_id=4711, user=\\xe4\\n: printed: first"
    assert (first.worker, first.task_id, first.labels) == (0, 1, LABELS)
    assert "request_id=4712" in by_text["second"].getMessage()
    assert "request_id=4712" in by_text["logged second"].getMessage()
    third = next(record for record in caplog.records if record.getMessage().endswith("printed: third"))
    assert "request_id" not in third.getMessage()


async def said(caplog: pytest.LogCaptureFixture, is_there: Callable[[str], bool]) -> None:
    with anyio.fail_after(10):
        while not any(is_there(record.getMessage()) for record in caplog.records):
            await anyio.lowlevel.checkpoint()


async def test_errors_of_a_task_have_its_labels_as_a_note(pool: Pool) -> None:
    failures: list[tuple[type[OffloopError], Any]] = [
        (TaskFailed, pool.call(jobs.fail, "text", labels=LABELS)),
        (TaskTimeout, pool.run(b"", [Hang()], timeout=0, labels=LABELS)),
        (WorkerDied, pool.run(b"", [Exit(3)], labels=LABELS)),
        (InvalidTask, pool.run(Path("/nonexistent/file"), [Noop()], labels=LABELS)),
    ]
    for kind, call in failures:
        with pytest.raises(kind) as caught:
            await call
        assert caught.value.__notes__.count(NOTE) == 1
    outcomes = await pool.run_many(b"", {"one": [Exit(3)], "two": [Noop()]}, labels=LABELS)
    assert all(outcome.error is None or NOTE in outcome.error.__notes__ for outcome in outcomes.values())
    assert any(outcome.error is not None for outcome in outcomes.values())


async def test_events_of_a_task_have_its_labels(pool: Pool) -> None:
    events = pool.events()
    with pytest.raises(WorkerDied):
        await pool.run(b"", [Exit(3)], labels=LABELS)
    found: dict[str, Any] = {}
    with anyio.fail_after(10):
        while len(found) < 3:
            event = await anext(events)
            match event:
                case TaskEnded():
                    found["ended"] = event.labels
                case WorkerMoved(event="Dispatched"):
                    found["moved"] = event.labels
                case WorkerCrashed():
                    found["crashed"] = event.report.labels
                case _:
                    pass
    events.close()
    assert found == {"ended": LABELS, "moved": LABELS, "crashed": LABELS}


WRONG: list[tuple[Any, type[Exception], str]] = [
    ("text", TypeError, "must be a mapping"),
    ({"name": 3}, TypeError, "both must be text"),
    ({3: "value"}, TypeError, "both must be text"),
    ({"": "value"}, ValueError, "a letter first"),
    ({"a b": "value"}, ValueError, "a letter first"),
    ({"a" * 65: "value"}, ValueError, "a letter first"),
    ({"name": "x" * 257}, ValueError, "name has 257 characters"),
    ({f"name{number}": "" for number in range(17)}, ValueError, "17 of them; at most 16"),
]


async def test_labels_are_bounded(pool: Pool) -> None:
    for labels, kind, text in WRONG:
        with pytest.raises(kind, match=text):
            await pool.run(b"", [Noop()], labels=labels)
    await pool.run(b"", [Noop()], labels={"a" * 64: "x" * 256, **{f"name-{number}.x": "" for number in range(15)}})


async def test_an_option_that_is_not_known_is_refused_with_the_nearest_name(pool: Pool) -> None:
    unknown: Any = {"timout": 3}
    with pytest.raises(TypeError, match=r"run\(\) got an unexpected keyword argument 'timout'; did you mean 'timeout'"):
        await pool.run(b"", [Noop()], **unknown)
    with pytest.raises(
        TypeError, match=r"stream\(\) got an unexpected keyword argument 'timeout'; did you mean 'frame_timeout'"
    ):
        pool.stream(b"", [Noop()], timeout=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(
        TypeError, match=r"map\(\) got an unexpected keyword argument 'frames'; options are labels, memory_limit"
    ):
        pool.map([], [Noop()], frames=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"as_executor\(\) got an unexpected keyword"):
        pool.as_executor(**unknown)


async def test_every_call_takes_a_memory_limit(pool: Pool) -> None:
    with pytest.raises(ValueError, match="memory_limit"):
        pool.run_many(b"", {"one": [Noop()]}, memory_limit=1)
    with pytest.raises(ValueError, match="memory_limit"):
        pool.map([], [Noop()], memory_limit=1)
    with pytest.raises(ValueError, match="memory_limit"):
        pool.stream(b"", [Noop()], memory_limit=1)
    batch = pool.map_call(jobs.allocate, [(200_000_000,)], memory_limit="50MB")
    async with batch as outcomes:
        [outcome] = [outcome async for outcome in outcomes]
    assert isinstance(outcome.error, TaskFailed)
    assert outcome.error.code == "memory_limit"
