"""`Pool.call`: every supported type goes to a real worker and back; every refusal names the parameter and the cure."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import logging
import math
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import pytest

import offloop
from offloop import InvalidTask, Pool, TaskFailed, TaskTimeout, WorkerDied
from offloop.errors import PluginError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool(offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    return await offloop_pool_factory(1, plugins=["functions"], memory_limit="512MiB")


BIG = bytes(range(256)) * 4096

VALUES: list[tuple[Callable[..., Any], Any]] = [
    (jobs.echo_number, -(2**63)),
    (jobs.echo_anything, {"a": [1, 2.5, None, True, "text", b"bytes"]}),
    (jobs.echo_untyped, [b"bytes", {"a": 1}]),  # pyright: ignore[reportUnknownMemberType]
    (jobs.echo_bytes, b""),
    (jobs.echo_bytes, b"short"),
    (jobs.echo_bytes, BIG),
    (jobs.echo_bytearray, bytearray(b"short")),
    (jobs.echo_bytearray, bytearray(BIG)),
    (jobs.echo_view, memoryview(b"short")),
    (jobs.echo_view, memoryview(BIG)),
    (jobs.echo_point, jobs.Point(1.5, tags=["a"])),
    (jobs.echo_box, jobs.Box(jobs.Point(1.0), 3)),
    (jobs.echo_person, jobs.Person("Ada", dt.date(1815, 12, 10))),
    (jobs.echo_colour, jobs.Colour.BLUE),
    (jobs.echo_time, dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)),
    (jobs.echo_duration, dt.timedelta(days=2, microseconds=5)),
    (jobs.echo_decimal, decimal.Decimal("1.10")),
    (jobs.echo_uuid, uuid.UUID(int=5)),
    (jobs.echo_path, Path("a/b")),
    (jobs.echo_options, {"quality": 5}),
    (jobs.echo_pair, jobs.Pair(1, "x")),
    (jobs.echo_set, {1, 2}),
    (jobs.echo_tuple, (1, "x")),
    (jobs.echo_union, [0.5]),
    (jobs.echo_union, None),
    (jobs.echo_choice, "b"),
]

ARRAYS = [
    np.arange(12, dtype="<f4").reshape(3, 4),
    np.zeros((0, 3), np.uint8),
    np.arange(24, dtype=np.int64).reshape(2, 3, 4)[:, ::2, ::-1],
    np.array([True, False]),
]


async def test_values_of_every_type_go_to_a_worker_and_come_back_equal(anyio_backend: object, pool: Pool) -> None:
    for function, value in VALUES:
        back = await pool.call(function, value)
        assert back == value
        assert type(back) is type(value)
    for array in ARRAYS:
        for source in (array, np.asfortranarray(array)):
            back = await pool.call(jobs.echo_array, source)
            assert back.dtype == array.dtype
            assert np.array_equal(back, array)
            assert not back.flags.writeable
    assert await pool.call(jobs.echo_maybe) == "nothing"
    assert await pool.call(jobs.echo_maybe, None) == "nothing"
    assert await pool.call(jobs.echo_maybe, BIG) == BIG
    assert await pool.call(jobs.scalar_of_numpy) == 0.5
    assert await pool.call(jobs.add, 1) == 11
    assert await pool.call(jobs.add, 1, 2, 3, 4, scale=2, other=5) == 25


async def test_bytes_come_from_every_kind_of_source(anyio_backend: object, pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(BIG)
    assert await pool.call(jobs.echo_view, path) == BIG
    buffer = pool.buffer(len(BIG))
    buffer.view[:] = BIG
    assert await pool.call(jobs.echo_bytes, buffer) == BIG
    array = await pool.call(jobs.echo_array, np.frombuffer(BIG, np.uint8))
    assert await pool.call(jobs.echo_view, value=array) == BIG


async def test_a_large_result_is_handed_over_in_shared_memory(anyio_backend: object, pool: Pool) -> None:
    array = await pool.call(jobs.filled, 1_000_000)
    assert array.sum() == 7_000_000
    assert not array.flags.owndata
    assert pool.statistics().memory_used_bytes >= 1_000_000
    arrays, rest = await pool.call(jobs.arrays_of, 3, 5000)
    assert [int(part.sum()) for part in arrays] == [0, 5000, 10_000]
    assert rest == {"rest": b"x" * 5000}
    assert await pool.call(jobs.texts_of, 20_000) == list(map(str, range(20_000)))
    del array, arrays, rest
    assert pool.statistics().leases["caller"] == 0


REFUSED_ARGUMENTS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (jobs.echo_number, ("3",), {}, r"jobs\.echo_number: the argument value: Expected `int`, got `str`"),
    (jobs.echo_number, (2**64,), {}, r"jobs\.echo_number: the argument value: "),
    (jobs.echo_number, (), {}, r"jobs\.echo_number\(value: int\) -> int: missing a required argument: 'value'"),
    (jobs.echo_number, (1,), {"other": 2}, r"got an unexpected keyword argument 'other'"),
    (jobs.echo_point, (jobs.Point("x"),), {}, r"the argument value\.x: Expected `float`, got `str`"),  # pyright: ignore[reportArgumentType]
    (jobs.echo_array, ([1, 2],), {}, r"the argument value: Expected an array, got `list`"),
    (jobs.echo_octets, (np.zeros(3),), {}, r"the argument value: Expected an array of `uint8`, got `float64`"),
    (jobs.echo_anything, (np.zeros(3),), {}, r"the argument value: a ndarray cannot be sent; annotate it as numpy.ndarray"),
    (jobs.echo_anything, (object(),), {}, r"the argument value: a object cannot be sent"),
    (jobs.echo_bytes, ("text",), {}, r"a str is no source"),
    (jobs.watch, (5,), {}, r"too many positional arguments"),
    (jobs.echo_anything, (b"x" * 2_000_000,), {}, r"2,000,\d+ bytes, and 1,048,576 is the limit"),
    (jobs.value_of, (lambda: None,), {}, r"the argument thing: cannot be pickled"),
]


async def test_arguments_of_the_wrong_type_are_refused_in_the_server(anyio_backend: object, pool: Pool) -> None:
    for function, arguments, keywords, reason in REFUSED_ARGUMENTS:
        with pytest.raises(InvalidTask, match=reason):
            await pool.call(function, *arguments, **keywords)
    assert pool.statistics().submitted == 0


class Holder:
    """A class with functions."""

    @offloop.function
    @staticmethod
    def allowed(value: int) -> int:
        return value

    def method(self) -> None:
        """A method."""

    async def never(self) -> None:
        """An async method."""


REFUSED_FUNCTIONS: list[tuple[Any, str]] = [
    (lambda: 1, "a lambda has no name that a worker could import; write `def` in a module"),
    (functools.partial(jobs.echo_number, 1), "has no import path; give its function, and its arguments to the call"),
    (Holder().method, r"Holder\.method is bound to .* give a function of a module"),
    (Holder.never, "is async, and a worker has no event loop"),
    (Holder, "Holder is a class; give a function that makes and uses it"),
    ("text".upper, "is no function that can be imported"),
    (5, "5 is no function that can be imported"),
    (jobs.undeclared, r"may not run in workers; decorate it with @offloop\.function, or use Pool\(functions=\['jobs'\]\)"),
    (math.sqrt, r"decorate it with @offloop\.function, or use Pool\(functions=\['math'\]\)"),
    (jobs.count_to, "is a generator function, which hands over many values; use stream_call"),
]


async def test_what_no_worker_can_import_is_refused_with_the_cure(anyio_backend: object, pool: Pool) -> None:
    def local() -> None:
        """A local function."""

    for function, reason in [*REFUSED_FUNCTIONS, (local, "is defined inside a function, where no worker finds it; move it")]:
        with pytest.raises(InvalidTask, match=reason):
            await pool.call(function)
    assert pool.statistics().submitted == 0


async def test_a_pool_without_the_plugin_says_how_to_add_it(anyio_backend: object) -> None:
    async with Pool(1, plugins=["vips"]) as pool:
        with pytest.raises(PluginError, match=r'add "functions" to Pool\(plugins=\[\.\.\.\]\)'):
            await pool.call(jobs.echo_number, 1)


async def test_the_functions_of_a_named_module_need_no_decorator(anyio_backend: object) -> None:
    async with Pool(1, plugins=[], functions=["jobs", "math"]) as pool:
        assert await pool.call(jobs.undeclared, 1) == 2
        assert await pool.call(math.sqrt, 2.25) == 1.5


async def test_exceptions_come_back_as_task_failed(anyio_backend: object, pool: Pool) -> None:
    with pytest.raises(TaskFailed) as caught:
        await pool.call(jobs.fail, "no good")
    failure = caught.value
    assert (failure.code, failure.exception_type, failure.message) == ("exception", "ValueError", "ValueError: no good")
    assert failure.remote_traceback is not None
    assert failure.remote_traceback.splitlines()[1].strip().startswith(f'File "{jobs.__file__}"')
    assert "the function was jobs.fail" in failure.__notes__
    with pytest.raises(TaskFailed) as caught:
        await pool.call(jobs.fail_in_own_way)
    assert caught.value.exception_type == "jobs.OwnError"
    with pytest.raises(TaskFailed) as caught:
        await pool.call(jobs.leave)
    assert caught.value.exception_type == "SystemExit"
    with pytest.raises(TaskFailed) as caught:
        await pool.call(jobs.refuse)
    assert (caught.value.code, caught.value.exception_type) == ("too_small", None)
    for function, reason in [
        (jobs.wrong_result, "Expected `int`, got `str`"),
        (jobs.unsendable_result, "a object cannot be sent"),
        (jobs.huge_result, "the limits are 1,048,576 and 1,024: return bytes, arrays or tables, or yield parts"),
        (jobs.wrong_octets, "Expected an array of `uint8`, got `float64`"),
    ]:
        with pytest.raises(TaskFailed, match=reason) as caught:
            await pool.call(function)
        assert caught.value.code == "invalid_result"


async def test_a_function_that_hangs_or_dies_costs_one_call(anyio_backend: object, pool: Pool) -> None:
    with pytest.raises(WorkerDied) as died:
        await pool.call(jobs.die)
    assert "the function was jobs.die" in died.value.__notes__
    with pytest.raises(TaskTimeout):
        await pool.call(jobs.hang, timeout=0.1)
    with pytest.raises(TaskTimeout, match=r"0\.2 s"):
        await pool.call(jobs.hang_briefly)
    with pytest.raises(TaskTimeout) as caught:
        await pool.call(jobs.watch, timeout=0.2)
    assert caught.value.obeyed
    assert await pool.call(jobs.echo_number, 5) == 5


async def test_options_count_after_calls_without_any(anyio_backend: object, pool: Pool) -> None:
    for _ in range(2):
        assert await pool.call(jobs.echo_number, 5) == 5
    with pytest.raises(TaskTimeout, match=r"0\.1 s"):
        await pool.call(jobs.hang, timeout=0.1)
    for wrong in (
        {"timeout": -1},
        {"priority": 11},
        {"retries": -1},
        {"queue_timeout": -1},
        {"memory_limit": -1},
        {"tenant": 5},
    ):
        options: dict[str, Any] = wrong
        with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
            await pool.call(jobs.echo_number, 5, **options)
    assert await pool.call(jobs.echo_number, 5, labels={"request": "a"}) == 5
    with pytest.raises(TaskTimeout, match=r"0\.2 s"):
        await pool.call(jobs.hang_briefly)


async def test_output_and_log_records_reach_the_log(
    anyio_backend: object, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "offloop.worker"):
        await pool.call(jobs.talk, "hello")
        await pool.call(jobs.talk, "again")  # its start is after the end of the output of the first
        await pool.drain()
    lines = [(record.levelname, record.getMessage().partition(": ")[2]) for record in caplog.records]
    assert ("INFO", "hello") in lines
    assert ("WARNING", "jobs: logged hello") in lines


async def test_arguments_may_be_pickled_for_the_worker(anyio_backend: object, pool: Pool) -> None:
    assert await pool.call(jobs.value_of, jobs.Unsendable(5), {1, 2}) == (5, "set", 0)
    assert await pool.call(jobs.value_of, jobs.Unsendable(5), data=b"xyz") == (5, "NoneType", 3)
    assert await pool.call(jobs.value_of, jobs.Unsendable(5), BIG) == (5, "bytes", 0)


async def test_functions_have_workers_of_their_own(anyio_backend: object) -> None:
    async with Pool(1, plugins=["functions", "vips"], memory_limit="512MiB") as pool:
        assert not sum(pool.statistics().groups["functions"].workers.values())
        first = await pool.call(jobs.pid)
        assert await pool.call(jobs.pid) == first
        assert pool.statistics().groups["functions"].starts == 1


async def test_a_call_that_declares_more_memory_than_the_pool_has_is_refused(anyio_backend: object, pool: Pool) -> None:
    with pytest.raises(offloop.MemoryLimitExceeded, match="estimated"):
        await pool.call(jobs.heavy)


async def test_resources_are_made_once_in_a_worker_outside_of_every_tasks_time(anyio_backend: object, pool: Pool) -> None:
    assert await pool.call(jobs.count_calls, 1) == (1, "made")
    assert await pool.call(jobs.count_calls, step=2) == (3, "made")
    with pytest.raises(PluginError, match=r"the resource jobs\.Broken cannot be made: OSError: there is no model"):
        await pool.call(jobs.needs_broken)
    with pytest.raises(InvalidTask, match="got an unexpected keyword argument 'counter'"):
        await pool.call(jobs.count_calls, 1, counter=5)
    settings = pool._supervisor.core.settings if pool._supervisor else None
    assert settings is not None
    assert {group.name: group.load_timeout_s for group in settings.groups}["functions"] == 60.0 + 60.0 + 5.0 + 60.0
