"""A program with functions that try what the sandbox may refuse. Prints what each gave, as JSON.

A variable has "needs" or "none", and a directory.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import anyio

from offloop import Pool, TaskFailed, function

VARIABLE = "OFFLOOP_TEST_NEEDS"
NEEDS, DIRECTORY = os.environ[VARIABLE].split(":")
HERE = Path(__file__).parent


def options() -> dict[str, Any]:
    if NEEDS == "none":
        return {}
    return {"network": True, "read": [f"{DIRECTORY}/input"], "write": [f"{DIRECTORY}/output"]}


@function(**options())
def read(path: str) -> str:
    return Path(path).read_text()


@function
def write(path: str) -> None:
    Path(path).write_text("written")


@function
def connect(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        return connection.recv(5)


@function
def import_module(name: str) -> str:
    return __import__(name).__name__


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    found: dict[str, str] = {}

    async def greet() -> None:
        await anyio.wait_readable(listener)
        connection, _ = listener.accept()
        connection.sendall(b"hello")
        connection.close()

    environment = {VARIABLE: os.environ[VARIABLE]}
    async with (
        Pool(1, memory_limit="256MiB", plugins=["functions"], environment=environment) as pool,
        anyio.create_task_group() as task_group,
    ):
        task_group.start_soon(greet)
        calls: dict[str, tuple[Any, Any]] = {
            "read input": (read, f"{DIRECTORY}/input/file"),
            "read its own source": (read, __file__),
            "read a file beside its source": (read, str(HERE / "secret.env")),
            "read a late module": (read, str(HERE / "late_module.py")),
            "write output": (write, f"{DIRECTORY}/output/file"),
            "write input": (write, f"{DIRECTORY}/input/file"),
            "connect": (connect, listener.getsockname()[1]),
            "import of Python": (import_module, "this"),
            "import of an installed package": (import_module, "xdist"),
            "import of a late module": (import_module, "late_module"),
        }
        for name, (target, argument) in calls.items():
            try:
                await pool.call(target, argument)
                found[name] = "allowed"
            except TaskFailed as error:
                found[name] = str(error.exception_type)
                if name == "import of a late module":
                    found["remedy"] = str(error)
        task_group.cancel_scope.cancel()
    listener.close()
    print(json.dumps(found))  # noqa: T201 (the output of this program)


if __name__ == "__main__":
    anyio.run(main)
