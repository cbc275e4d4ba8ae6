"""Log records and warnings of plugin code reach the server's log with their levels, and with the task that wrote them."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel
import pytest
from logging_plugin import LoggingPlugin, Talk

from offloop import Pool, WorkerDied
from offloop.testing.faults import Exit, FaultsPlugin

pytestmark = pytest.mark.anyio


async def said(caplog: pytest.LogCaptureFixture, last: str) -> list[tuple[str, str]]:
    """Level and text of what was logged, once the last line has come."""
    with anyio.fail_after(10):
        while last not in caplog.text:
            await anyio.lowlevel.checkpoint()
    return [
        (record.levelname, record.getMessage().removeprefix("worker 0, task 1: "))
        for record in caplog.records
        if record.name == "offloop.worker"
    ]


async def test_records_and_warnings_keep_their_level_and_prints_are_info(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "offloop.worker"):
        async with Pool(1, plugins=[LoggingPlugin]) as pool:
            await pool.run(b"", [Talk("first\x1b[31m")])
            lines = await said(caplog, "printed: ")
    assert lines[:3] == [
        ("INFO", "library: info: first\\x1b[31m"),
        ("WARNING", "library: warning: first\\x1b[31m"),
        ("ERROR", "library: error: first\\x1b[31m"),
    ]
    assert ("ERROR", "Traceback (most recent call last):") in lines
    [warning] = [text for level, text in lines if level == "WARNING" and text.startswith("py.warnings: ")]
    assert warning.endswith("UserWarning: careful: first\\x1b[31m")
    assert lines[-1] == ("INFO", "printed: first\\x1b[31m")
    assert not any("debug" in text for _, text in lines), "the server does not log that level"


async def test_a_worker_writes_the_levels_that_the_server_logs(anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "offloop.worker"):
        async with Pool(1, plugins=[LoggingPlugin]) as pool:
            await pool.run(b"", [Talk("all")])
            lines = await said(caplog, "printed: ")
    assert lines[0] == ("DEBUG", "library: debug: all")


async def test_the_report_of_a_death_shows_records_with_the_names_of_their_levels(anyio_backend: object) -> None:
    async with Pool(1, plugins=[LoggingPlugin, FaultsPlugin]) as pool:
        with pytest.raises(WorkerDied) as caught:
            await pool.run(b"", [Talk("before"), Exit(3)])
    assert "WARNING library: warning: before\n" in caught.value.stderr_tail
