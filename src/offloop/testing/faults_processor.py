"""The processor of the faults plugin."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import TaskFailed
from ..operation import Operation
from ..processor import Encoded, Payload, Task, WorkerContext
from . import faults
from .fault_worker import arm
from .orders import Order, Point

__all__ = ["FaultsProcessor"]


_MAX_ORDER_NBYTES = 200  # maximum length of an order's line in bytes


class _Unpicklable(Exception):
    def __init__(self, lock: object) -> None:
        super().__init__("holds a lock", lock)


class _Textless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class FaultsProcessor:
    """Carries out the operations of the faults plugin, in order."""

    def open(self, worker: WorkerContext) -> None:
        self._slot = worker.slot

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload | None:
        for operation in operations:
            result = _ACTIONS[type(operation)](operation, payload, task)
            if result is None:
                return None  # all outputs were handed over
            payload = result
        return payload


def _noop(_operation: faults.Noop, _payload: Payload, _task: Task) -> Payload:
    return Encoded(b"")


def _echo(_operation: faults.Echo, payload: Payload, task: Task) -> Payload:
    block = task.allocate(memoryview(payload.data).nbytes)
    block[:] = payload.data
    return Encoded(block, {"media_type": "application/octet-stream"})


def _allocate(operation: faults.Allocate, _payload: Payload, task: Task) -> Payload:
    if operation.chunk_nbytes is None:
        block = task.allocate(operation.nbytes)
        block[:] = b"\x01" * operation.nbytes
        return Encoded(block)
    output = task.output()
    left = operation.nbytes
    while left:
        left -= output.write(b"\x01" * min(operation.chunk_nbytes, left))
    return Encoded(output.view)


def _emit(operation: faults.Emit, payload: Payload, task: Task) -> Payload | None:
    for index in range(operation.outputs):
        _wait(faults.Wait(operation.pause_s), payload, task)
        task.emit(_numbered(index, operation.nbytes, task), f"frame {index}")
    match operation.then:
        case "end":
            return None
        case "return":
            return _numbered(operation.outputs, operation.nbytes, task)
        case "raise":
            raise TaskFailed("refused", "as ordered")
        case "exit":
            os._exit(3)
        case "hang":
            return _hang(faults.Hang(), payload, task)


def _numbered(index: int, nbytes: int, task: Task) -> Encoded:
    block = task.allocate(nbytes)
    block[:] = bytes([index % 256]) * nbytes
    return Encoded(block, {"index": index})


def _preview(operation: faults.Preview, payload: Payload, task: Task) -> Payload:
    if task.wants_preview:
        block = task.allocate(operation.nbytes)
        block[:] = b"\x02" * operation.nbytes
        task.preview(Encoded(block, {"preview": True}))
    return payload


def _inspect(_operation: faults.Inspect, _payload: Payload, _task: Task) -> Payload:
    descriptors: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself, which is closed already
    info: dict[str, Any] = {"pid": os.getpid(), "modules": sorted(sys.modules), "descriptors": descriptors}
    return Encoded(b"", info)


def _print_text(operation: faults.PrintText, payload: Payload, _task: Task) -> Payload:
    if operation.buffered:
        sys.stdout.write(operation.text)
        sys.stderr.write(operation.text)
        ctypes.CDLL(None).printf(b"%s", operation.text.encode())
        return payload
    print(operation.text)  # noqa: T201 (the operation prints)
    os.write(1, operation.text.encode())
    return payload


def _write_stderr(operation: faults.WriteStderr, payload: Payload, _task: Task) -> Payload:
    left = operation.nbytes
    while left:
        left -= os.write(2, b"e" * min(left, 65536))
    return payload


def _raise(operation: faults.Raise, _payload: Payload, _task: Task) -> Payload:
    match operation.kind:
        case "unpicklable":
            raise _Unpicklable(threading.Lock())
        case "textless":
            raise _Textless
        case "system_exit":
            raise SystemExit(7)
        case "memory":
            raise MemoryError
        case "task_failed":
            raise TaskFailed("refused", "as ordered")
        case _:
            raise ValueError("as ordered")


def _return_nonsense(_operation: faults.ReturnNonsense, _payload: Payload, _task: Task) -> Any:
    return 42


def _exit(operation: faults.Exit, _payload: Payload, _task: Task) -> Payload:
    os._exit(operation.code)


def _kill(operation: faults.Kill, _payload: Payload, _task: Task) -> Payload:
    os.kill(os.getpid(), operation.signal)
    time.sleep(60)  # because a signal to the process may be delivered later
    return _payload


def _kill_once(operation: faults.KillOnce, payload: Payload, task: Task) -> Payload:
    try:
        os.close(os.open(operation.mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return payload
    return _kill(faults.Kill(signal.SIGKILL), payload, task)


def _progress(operation: faults.Progress, payload: Payload, task: Task) -> Payload:
    task.progress(operation.fraction)
    return payload


_kept: list[bytearray] = []


def _grow(operation: faults.Grow, payload: Payload, _task: Task) -> Payload:
    _kept.append(bytearray(b"\x01") * (operation.mebibytes << 20))
    return payload


def _wait(operation: faults.Wait, payload: Payload, task: Task) -> Payload:
    cancelled = threading.Event()
    with task.on_cancel(cancelled.set):
        cancelled.wait(operation.seconds)
    task.checkpoint()
    return payload


def _hold_on(operation: faults.HoldOn, payload: Payload, task: Task) -> Payload:
    while not os.path.exists(operation.until):
        time.sleep(0.002)
        task.checkpoint()
    return payload


def _hang(operation: faults.Hang, _payload: Payload, _task: Task) -> Payload:
    while True:
        match operation.how:
            case "sleep":
                time.sleep(3600)
            case "hold_gil":
                ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the GIL during the call
            case _:
                pass


def _obey(_operation: faults.Obey, payload: Payload, task: Task) -> Payload:
    source = memoryview(payload.data)
    half = source.nbytes // 2
    failpoint = arm(Order.parse(bytes(source[:_MAX_ORDER_NBYTES]).partition(b"\n")[0]), task)
    failpoint.reach(Point.ACCEPTED)
    data = bytearray(source[:half])
    failpoint.reach(Point.MID_INPUT)
    data += source[half:]
    task.allocate(1)  # uses up the preallocated block, so that the next block has to be requested
    block = task.allocate(len(data))
    failpoint.reach(Point.WHILE_GRANTED)
    block[:half] = data[:half]
    failpoint.reach(Point.MID_PIXELS)
    block[half:] = data[half:]
    return Encoded(block)


def _say(operation: faults.Say, _payload: Payload, _task: Task) -> Payload:
    invalid_text = os.fsdecode(b"file-\xff")
    match operation.what:
        case "error":
            raise TaskFailed("refused", invalid_text)
        case "long info":
            return Encoded(b"", {"text": "x" * 65_000})
        case "nested info":
            return Encoded(b"", {"deep": {"er": {"and": "deeper"}}})
        case _:
            return Encoded(b"", {"name": invalid_text})


def _call_back_badly(_operation: faults.CallBackBadly, payload: Payload, task: Task) -> Payload:
    def callback() -> None:
        raise RuntimeError("as ordered")

    with task.on_cancel(callback):
        while not task.cancelled:
            time.sleep(0.01)
    task.checkpoint()
    return payload


def _leave_child(_operation: faults.LeaveChild, _payload: Payload, _task: Task) -> Payload:
    return Encoded(b"", {"pid": subprocess.Popen(["sleep", "3600"]).pid})  # noqa: S607 (any `sleep` on the path)


_ACTIONS: dict[type[Operation], Callable[[Any, Payload, Task], Payload | None]] = {
    faults.Noop: _noop,
    faults.Echo: _echo,
    faults.Emit: _emit,
    faults.Preview: _preview,
    faults.Allocate: _allocate,
    faults.Inspect: _inspect,
    faults.PrintText: _print_text,
    faults.WriteStderr: _write_stderr,
    faults.Raise: _raise,
    faults.ReturnNonsense: _return_nonsense,
    faults.Exit: _exit,
    faults.Kill: _kill,
    faults.KillOnce: _kill_once,
    faults.Progress: _progress,
    faults.Grow: _grow,
    faults.Wait: _wait,
    faults.Hang: _hang,
    faults.HoldOn: _hold_on,
    faults.Obey: _obey,
    faults.Say: _say,
    faults.CallBackBadly: _call_back_badly,
    faults.LeaveChild: _leave_child,
}
