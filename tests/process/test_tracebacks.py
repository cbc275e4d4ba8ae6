"""Tracebacks of sandboxed workers have source lines, although the workers can read no source file any more."""

from __future__ import annotations

import logging

import anyio
import jobs
import pytest
from logging_plugin import Fail, LoggingPlugin, Talk

from offloop import Pool, TaskFailed

pytestmark = pytest.mark.anyio


async def test_the_traceback_of_a_processor_has_its_source_lines(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    async with Pool(1, plugins=[LoggingPlugin], memory_limit="256MiB") as pool:
        assert "landlock" not in pool.sandbox.missing
        await pool.run(b"", [Talk("text")])
        with pytest.raises(TaskFailed) as caught:
            await pool.run(b"", [Fail()])
        with anyio.fail_after(10):
            while "printed: text" not in caplog.text:
                await anyio.lowlevel.checkpoint()
    assert caught.value.remote_traceback is not None
    assert "    fail()\n" in caught.value.remote_traceback
    assert '    raise LookupError("as ordered")\n' in caught.value.remote_traceback
    assert "    int(operation.text)" in caplog.text, "the traceback that the processor has logged"


async def test_the_traceback_of_a_function_has_its_source_lines(anyio_backend: object) -> None:
    async with Pool(1, plugins=["functions"], memory_limit="256MiB") as pool:
        with pytest.raises(TaskFailed) as caught:
            await pool.call(jobs.fail, "text")
    assert caught.value.remote_traceback is not None
    assert "    raise ValueError(text)\n" in caught.value.remote_traceback
