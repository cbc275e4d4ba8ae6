"""A processor that is broken after an error does not fail the tasks that come later."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
from moody_plugin import MoodyPlugin, Try

from offloop import Pool
from offloop.errors import TaskFailed

pytestmark = pytest.mark.anyio


async def outcomes(pool: Pool, pipelines: list[list[Any]]) -> list[str]:
    found: list[str] = []
    for pipeline in pipelines:
        try:
            found.append(bytes(await pool.run(b"", pipeline)).decode())
        except TaskFailed as error:
            found.append(error.code)
    return found


@pytest.mark.parametrize(("breaks", "first"), [("says so", "broken"), ("retires", "the last one")])
async def test_after_a_processor_said_that_it_is_broken_no_task_fails(anyio_backend: object, breaks: Any, first: str) -> None:
    with anyio.fail_after(30):
        async with Pool(1, plugins=[MoodyPlugin]) as pool:
            assert await outcomes(pool, [[Try(breaks)], *[[Try()]] * 10]) == [first, *["fine"] * 10]
            assert pool.statistics().worker_starts == 2


async def test_after_three_unexpected_exceptions_no_task_fails(anyio_backend: object) -> None:
    with anyio.fail_after(30):
        async with Pool(1, plugins=[MoodyPlugin]) as pool:
            found = Counter(await outcomes(pool, [[Try("silently")], *[[Try()]] * 20]))
            assert found == {"exception": 3, "fine": 18}
