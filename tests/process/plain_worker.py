"""A worker written from docs/protocol.md alone: it imports nothing of offloop. It returns each source as it came."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NoReturn

INBOX, OUTBOX = 0, 1
PAGE = 4096

# MessagePack, as far as the protocol goes


def pack(value: Any) -> bytes:
    """Encode a value; a `Raw` is taken as it is."""
    if isinstance(value, Raw):
        return bytes(value)
    return _PACKERS[type(value)](value)


def _pack_int(value: int) -> bytes:
    return struct.pack(">BQ", 0xCF, value) if value >= 0 else struct.pack(">Bq", 0xD3, value)


def _pack_text(value: str) -> bytes:
    text = value.encode()
    return (bytes([0xA0 + len(text)]) if len(text) < 32 else struct.pack(">BI", 0xDB, len(text))) + text


def _pack_array(value: list[Any]) -> bytes:
    items = b"".join(map(pack, value))
    return (bytes([0x90 + len(value)]) if len(value) < 16 else struct.pack(">BI", 0xDD, len(value))) + items


def _pack_map(value: dict[Any, Any]) -> bytes:
    return struct.pack(">BI", 0xDF, len(value)) + b"".join(pack(key) + pack(item) for key, item in value.items())


_PACKERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"\xc0",
    bool: lambda value: b"\xc3" if value else b"\xc2",
    int: _pack_int,
    float: lambda value: struct.pack(">Bd", 0xCB, value),
    str: _pack_text,
    list: _pack_array,
    dict: _pack_map,
}


class Raw(bytes):
    """Bytes that are MessagePack already, or pretend to be."""


def unpack(data: bytes) -> Any:
    """Decode one value."""
    return _Unpacker(data).value()


class _Unpacker:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, nbytes: int) -> bytes:
        self._at += nbytes
        return self._data[self._at - nbytes : self._at]

    def _number(self, code: str) -> Any:
        return struct.unpack(f">{code}", self._take(struct.calcsize(code)))[0]

    def _items(self, count: int) -> list[Any]:
        return [self.value() for _ in range(count)]

    def _map(self, count: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(count)}

    def value(self) -> Any:
        code = self._take(1)[0]
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code < 0x90:
            return self._map(code & 0x0F)
        if code < 0xA0:
            return self._items(code & 0x0F)
        if code < 0xC0:
            return self._take(code & 0x1F).decode()
        return self._long_value(code)

    def _long_value(self, code: int) -> Any:
        plain = {0xC0: None, 0xC2: False, 0xC3: True}
        if code in plain:
            return plain[code]
        numbers = {0xCA: "f", 0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q", 0xD0: "b", 0xD1: "h", 0xD2: "i", 0xD3: "q"}
        if code in numbers:
            return self._number(numbers[code])
        kind, size = {
            **{0xC4 + i: ("bin", "BHI"[i]) for i in range(3)},
            **{0xD9 + i: ("str", "BHI"[i]) for i in range(3)},
            **{0xDC + i: ("array", "HI"[i]) for i in range(2)},
            **{0xDE + i: ("map", "HI"[i]) for i in range(2)},
        }[code]
        count = self._number(size)
        match kind:
            case "bin":
                return self._take(count)
            case "str":
                return self._take(count).decode()
            case "array":
                return self._items(count)
            case _:
                return self._map(count)


# A worker


class Task:
    """What a `run` says."""

    def __init__(self, fields: list[Any]) -> None:
        self.task_id, self.sources, self.stages, self.grant, *rest = fields
        self.to_file, self.threads, self.private_bytes, self.credit, self.pipelines, *_ = rest


class Worker:
    """The honest part."""

    def __init__(self, channel: int, lifeline: int, inbox: int, outbox: int) -> None:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())  # an enemy too ends with a test run that was killed
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)
        self.socket = socket.socket(fileno=channel)
        _, _slot, inbox_nbytes, outbox_nbytes, *_ = self.receive()
        self.inbox = mmap.mmap(inbox, inbox_nbytes, prot=mmap.PROT_READ)
        self.outbox = mmap.mmap(outbox, outbox_nbytes)
        os.close(inbox)
        os.close(outbox)
        self.preallocated: list[int] | None = None

    def receive(self) -> list[Any]:
        """The next message; the end of the channel is the end of this process."""
        (nbytes,) = struct.unpack("<I", self._receive_exactly(4))
        return unpack(self._receive_exactly(nbytes))

    def _receive_exactly(self, nbytes: int) -> bytes:
        data = b""
        while len(data) < nbytes:
            piece = self.socket.recv(nbytes - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return data

    def send(self, *fields: Any) -> None:
        self.send_bytes(message(*fields))

    def send_bytes(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            os._exit(0)

    def ready(self) -> None:
        self.send("loading", os.getpid())
        self.send("ready", os.getpid())

    def next_task(self) -> Task:
        """Wait for a task; leave when told to."""
        while True:
            tag, *fields = self.receive()
            if tag == "retire":
                os._exit(0)
            if tag == "run":
                task = Task(fields)
                self.preallocated = task.grant or self.preallocated
                self.outbox[:24] = struct.pack("<QIxxxxd", task.task_id, 0, 0.0)
                return task

    def first_task(self) -> Task:
        self.ready()
        return self.next_task()

    def source_of(self, task: Task) -> bytes:
        handle: list[int] | None = task.sources[0][1]
        if handle is None:
            return b""
        segment, offset, nbytes, _ = handle
        return (self.inbox, self.outbox)[segment][offset : offset + nbytes]

    def write(self, task: Task, data: bytes) -> list[int]:
        """Write a result into the preallocated block, which it uses up, or into requested memory."""
        block, self.preallocated = self.preallocated, None
        if block is None:
            self.send("need", task.task_id, len(data))
            tag, _, block = self.receive()
            assert tag == "grant"
        _, offset, _, generation = block
        self.outbox[offset : offset + len(data)] = data
        return [OUTBOX, offset, len(data), generation]

    def echo(self, task: Task) -> list[int]:
        """What the task asks for: its source, as it came."""
        handle = self.write(task, self.source_of(task))
        self.done(task, ["e", handle])
        return handle

    def done(self, task: Task, output: list[Any], info: Any = None) -> None:
        self.send("done", task.task_id, output, info or {}, time.monotonic_ns(), time.monotonic_ns())

    def failed(self, task: Task, code: str, message: str) -> None:
        self.send("failed", task.task_id, code, message, None, time.monotonic_ns(), time.monotonic_ns())

    def serve(self) -> NoReturn:
        """Be honest for ever."""
        while True:
            self.echo(self.next_task())


def frame(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


def message(*fields: Any) -> bytes:
    return frame(pack(list(fields)))
