"""The floor: a supervisor written by hand in a few lines, with none of the guarantees of a pool.

Each worker has a socket, gets one pickled call at a time, and answers with the pickled result. There is no time limit, no bound
on memory, no order, no recovery and no check of anything: it shows what Python can do on this machine.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from suite.contenders import Opened

__all__ = ["FLOOR", "by_hand"]

FLOOR = "by hand, no guarantees"
_SIZE = struct.Struct("<Q")
_CHUNK = 1 << 18


class _Worker:
    """One process, its socket, and the answer that it owes."""

    def __init__(self, idle: Callable[[_Worker], None]) -> None:
        self._idle = idle
        self._socket, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", "suite.floor", str(other.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[other.fileno()])
        self._received = bytearray()
        self._answer: asyncio.Future[Any] | None = None
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def send(self, call: bytes, answer: asyncio.Future[Any]) -> None:
        self._answer = answer
        self._socket.sendall(_SIZE.pack(len(call)) + call)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._process.wait()

    def _read(self) -> None:
        data = self._socket.recv(_CHUNK)
        self._received += data
        if len(self._received) < _SIZE.size or len(self._received) < _SIZE.size + _SIZE.unpack_from(self._received)[0]:
            return
        answer, self._answer = self._answer, None
        assert answer is not None
        answer.set_result(pickle.loads(memoryview(self._received)[_SIZE.size :]))
        self._received = bytearray()
        self._idle(self)


@asynccontextmanager
async def by_hand(workers: int) -> AsyncGenerator[Opened]:
    idle: deque[_Worker] = deque()
    waiting: deque[tuple[bytes, asyncio.Future[Any]]] = deque()
    loop = asyncio.get_running_loop()

    def on_idle(worker: _Worker) -> None:
        if waiting:
            worker.send(*waiting.popleft())
        else:
            idle.append(worker)

    def call(function: Callable[..., Any], *values: Any) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = loop.create_future()
        message = pickle.dumps((function, values), protocol=5)
        if idle:
            idle.popleft().send(message, answer)
        else:
            waiting.append((message, answer))
        return answer

    started = [_Worker(on_idle) for _ in range(workers)]
    idle.extend(started)
    try:
        yield Opened(call)
    finally:
        for worker in started:
            worker.close()


def _serve(fd: int) -> None:
    channel = socket.socket(fileno=fd).makefile("rwb")
    while size := channel.read(_SIZE.size):
        function, values = pickle.loads(channel.read(_SIZE.unpack(size)[0]))
        answer = pickle.dumps(function(*values), protocol=5)
        channel.write(_SIZE.pack(len(answer)) + answer)
        channel.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
