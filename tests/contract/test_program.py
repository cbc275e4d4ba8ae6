"""A pool that cannot run in this process is refused before a worker starts."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from offloop import Pool, PoolMisused
from offloop.runtime.workers.command_line import WorkerProgram

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("system", ["darwin", "win32", "freebsd14"])
async def test_on_another_system_than_linux_a_pool_is_refused(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1)
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(PoolMisused, match=f"^offloop runs on Linux only, and this system is {system}$"):
        await pool.__aenter__()


async def test_a_program_that_embeds_python_needs_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(
        PoolMisused, match=r"a program that embeds Python is not a Python interpreter.*Pool\(executable=\.\.\.\)"
    ):
        await Pool(1).__aenter__()


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"executable": "/nonexistent/python"}, ValueError, "there is no program '/nonexistent/python' that can be run"),
        ({"executable": os.devnull}, ValueError, "that can be run"),
        ({"executable": []}, TypeError, "executable="),
        ({"executable": [1]}, TypeError, "executable="),
        ({"executable": 1}, TypeError, "give the path of a Python interpreter"),
        ({"environment": "A=1"}, TypeError, "give a dictionary"),
        ({"environment": {"A": 1}}, TypeError, "values are texts or None"),
        ({"environment": {"A=B": "1"}}, ValueError, "no such variable can be set"),
        ({"environment": {"": "1"}}, ValueError, "no such variable can be set"),
        ({"environment": {"A": "\0"}}, ValueError, "no such variable can be set"),
    ],
)
def test_an_invalid_setting_is_refused(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Pool(1, **settings)


def test_a_path_that_cannot_be_an_argument_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/a", "", "/b\0", "/\ud800", "/\udcff", 3])
    command = WorkerProgram().command([4, 5, 6, 7])
    assert command[-7:] == ["4", "5", "6", "7", "/a", "", "/\udcff"]
