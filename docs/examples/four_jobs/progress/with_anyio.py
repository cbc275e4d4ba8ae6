"""A call of anyio.to_process that reports its progress by a socket, because its processes cannot use a manager's queue."""

# pyright: basic, reportPossiblyUnboundVariable=false

import os
from multiprocessing.connection import Client, Listener

import anyio
import anyio.to_process
import anyio.to_thread


def count(steps: int, address: str, key: bytes) -> int:
    with Client(address, authkey=key) as progress:
        for step in range(steps):
            progress.send((step + 1) / steps)
        progress.send(None)
    return steps


def show(listener: Listener) -> None:
    with listener.accept() as progress:
        while (fraction := progress.recv()) is not None:
            print(f"{fraction:.0%}")


async def main() -> None:
    key = os.urandom(16)
    with Listener(family="AF_UNIX", authkey=key) as listener, anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, show, listener)
            steps = await anyio.to_process.run_sync(count, 3, str(listener.address), key, cancellable=True)
        print(steps)


if __name__ == "__main__":
    anyio.run(main)
