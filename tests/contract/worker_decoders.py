"""Every decoder of the server that reads bytes of a worker: messages, the status page, output, values and tables of functions.

As a script, it fuzzes them with atheris, which is installed by hand, for so many seconds:

    python -m pip install atheris
    python -m tests.contract.worker_decoders -max_total_time=300
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

import msgspec

from offloop.errors import TaskFailed
from offloop.functions.encoding.results import ResultCodec
from offloop.functions.encoding.shape import Shape
from offloop.functions.encoding.tables import find_table_kind
from offloop.wire.codec import encode_frame
from offloop.wire.framing import HEADER, MAX_FROM_WORKER_NBYTES
from offloop.wire.log_lines import log_lines, split_levels, without_markers
from offloop.wire.status import STATUS_NBYTES, read_status, write_stage
from offloop.wire.text import printable

from ..core.worker_bytes import CORPUS, ServerSide

__all__ = ["DECODERS", "SEEDS", "decode"]

MAX_CPU_S = 2.0  # for one input; all take milliseconds, but machines are busy
_SEPARATOR = b"\xc1\xc1\xc1"  # between two frames; MessagePack has no such byte


class _Nested(msgspec.Struct):
    number: int
    parts: list[bytes | None] = []
    text: str = ""


_CODECS = [ResultCodec(Shape(kind), "function") for kind in (Any, dict[str, list[_Nested]], bytes, int | str | None)]


def _messages(data: bytes) -> None:
    """Payloads of frames, to a worker that is ready or not."""
    frames = [HEADER.pack(len(payload)) + payload for payload in data[1:].split(_SEPARATOR)]
    ServerSide(is_ready=bool(data[:1] != b"\0")).receive(frames)


def _stream(data: bytes) -> None:
    """Bytes of the channel, with headers of frames."""
    ServerSide(is_ready=bool(data[:1] != b"\0")).receive([data[1:]])


def _status(data: bytes) -> None:
    """The status page of a worker that dies."""
    side = ServerSide()
    side.script.exited(exit_code=-11, status=read_status(data[:STATUS_NBYTES].ljust(STATUS_NBYTES, b"\0")))


def _output(data: bytes) -> None:
    """A line of output."""
    for level, part in split_levels(data):
        assert 1 <= level <= 50
        assert ascii(part.decode("utf-8", "backslashreplace")).isascii()
    text = printable(without_markers(data).decode("utf-8", "backslashreplace"), 1000)
    assert all(character.isprintable() or character.isspace() for character in text)


def _value(data: bytes) -> None:
    """The value that a function has returned, in the info of a result or in its memory."""
    codec = _CODECS[data[0] % len(_CODECS)] if data else _CODECS[0]
    with suppress(TaskFailed):
        codec.decode({"value": data[1:].decode("latin-1")}, memoryview(b""))
    with suppress(TaskFailed):
        codec.decode({"pieces": [len(data) // 2]}, memoryview(data))


def _table(data: bytes) -> None:
    """An Arrow table that a function has returned."""
    pyarrow = import_module("pyarrow")
    kind = find_table_kind(pyarrow.Table)
    assert kind is not None
    with suppress(ValueError):
        kind.from_memory(memoryview(data), kind.attached())


DECODERS: tuple[Callable[[bytes], None], ...] = (_messages, _stream, _status, _output, _value, _table)


def decode(data: bytes) -> None:
    """Give bytes to the decoder that their first byte chooses.

    Raises:
        AssertionError: the decoder took too long, or returned something that it must not.
        Exception: the decoder raised an error that its callers do not expect.
    """
    if data:
        began = process_time()
        DECODERS[data[0] % len(DECODERS)](data[1:])
        assert process_time() - began < MAX_CPU_S


def _seeds() -> list[bytes]:
    frames = [bytes(encode_frame(message)) for message in CORPUS]
    page = bytearray(STATUS_NBYTES)
    write_stage(memoryview(page), 1, 0, 1 << 20)
    values = [msgspec.msgpack.encode(value) for value in ({"a": [_Nested(1, [b"x", None], "y")]}, b"bytes", 7, "text", None)]
    seeds = [b"\0\1" + _SEPARATOR.join(frame[HEADER.size :] for frame in frames[start:]) for start in range(len(frames))]
    seeds += [b"\1\1" + b"".join(frames[start : start + 2]) for start in range(len(frames))]
    seeds += [b"\2" + bytes(page[:64]), b"\3" + log_lines(30, "first\nsecond"), b"\3\x1b[2J\x1e30 text"]
    seeds += [bytes([4, index]) + value for value in values for index in range(len(_CODECS))]
    return [*seeds, b"\5" + _table_of_a_worker()]


def _table_of_a_worker() -> bytes:
    pyarrow = import_module("pyarrow")
    import_module("pyarrow.ipc")
    table, sink = pyarrow.table({"text": ["first", None], "number": [1, 2], "list": [[1], []]}), pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


SEEDS = _seeds()
"""Valid bytes for each decoder, to be changed."""


if __name__ == "__main__":
    atheris: Any = import_module("atheris")
    for function in (*DECODERS, read_status, split_levels, without_markers, printable):
        atheris.instrument_func(function)
    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            (Path(corpus) / str(number)).write_bytes(seed)
        limits = ["-rss_limit_mb=1024", f"-max_len={MAX_FROM_WORKER_NBYTES}", "-timeout=10"]
        atheris.Setup([*sys.argv, *limits, corpus], decode)
        atheris.Fuzz()
