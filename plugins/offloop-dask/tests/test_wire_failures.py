"""Errors as data: every error of offloop arrives as it was, and nothing else is made of what a node sends."""

from __future__ import annotations

import signal
from typing import Any

import msgspec
import pytest

from offloop import errors
from offloop.errors import CrashReport, InternalError, OffloopError
from offloop_dask.wire.failures import decode_error, encode_error

REPORT = CrashReport(
    pid=7,
    exit_code=-11,
    reason=None,
    task_id=3,
    running="vips (Resize)",
    progress=0.5,
    memory_bytes=1000,
    traceback="a traceback",
    stderr_tail="the end",
    recent_transitions=("idle",),
    tasks=4,
    age_s=1.5,
)
EXAMPLES: list[OffloopError] = [
    errors.InvalidTask("wrong: /path", public_message="wrong"),
    errors.QueueFull(4, 3, unit="bytes", asked_bytes=5),
    errors.QueueTimeout(2.0, "a worker", expected_s=3.0),
    errors.TaskTimeout(1.0, obeyed=False, running="vips (Resize)"),
    errors.TaskFailed("exception", "a text", remote_traceback="Traceback", exception_type="ValueError"),
    errors.WorkerDied(-11, running="vips (Resize)", stderr_tail="the end", report=REPORT),
    errors.WorkerDied(3),
    errors.TaskQuarantined(3, 12.0),
    errors.MemoryLimitExceeded(10, 5, advice="buy more", is_temporary=True),
    errors.SourceTooLarge(10, 5),
    errors.PluginError("vips", "missing", distribution="offloop-vips 1", remote_traceback="Traceback"),
    errors.PoolClosed(),
    errors.InternalError("a defect"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_it_was(error: OffloopError) -> None:
    found = decode_error(encode_error(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert found.public_message == error.public_message
    assert getattr(found, "__notes__", []) == getattr(error, "__notes__", [])
    names = set(error.__dict__) - {"__notes__"}
    assert {name: getattr(found, name) for name in names} == {name: getattr(error, name) for name in names}


def test_a_signal_is_a_signal_again() -> None:
    found: Any = decode_error(encode_error(errors.WorkerDied(-11)))
    assert found.signal is signal.SIGSEGV


def test_an_error_of_others_becomes_an_internal_error() -> None:
    found = decode_error(encode_error(KeyError("secret")))
    assert type(found) is InternalError
    assert "KeyError" in str(found)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"nonsense",
        msgspec.msgpack.encode(["OSError", [], {}, []]),
        msgspec.msgpack.encode(["InvalidTask", ["text"], {"report": {"pid": "no number"}}, []]),
        msgspec.msgpack.encode(["InvalidTask", ["text"], {"field": [1, 2]}, []]),
        msgspec.msgpack.encode(["InvalidTask", ["text"], {}]),
    ],
)
def test_what_is_no_error_of_ours_is_an_internal_error(encoded: bytes) -> None:
    assert type(decode_error(encoded)) is InternalError


def test_texts_are_bounded() -> None:
    found: Any = decode_error(encode_error(errors.TaskFailed("exception", "x" * 100_000)))
    assert len(found.message) <= 24 * 1024
