"""A worker that is an enemy. All that it knows of the supervisor is written in docs/protocol.md.

Started as `evil_worker.py BEHAVIOUR CHANNEL LIFELINE INBOX OUTBOX`. A behaviour is a function below, chosen by its name. Most
serve honestly up to some point, do one thing that is not allowed, and then wait to be killed.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any, NoReturn

from plain_worker import INBOX, PAGE, Raw, Task, Worker, frame, message, pack


def linger() -> NoReturn:
    """Wait to be killed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


behaviours: dict[str, Callable[[Worker], None]] = {}


def behaviour(function: Callable[[Worker], None]) -> Callable[[Worker], None]:
    behaviours[function.__name__] = function
    return function


# At the start


@behaviour
def never_ready(_worker: Worker) -> None:
    pass


def starting(*breach: bytes) -> Callable[[Worker], None]:
    def start(worker: Worker) -> None:
        worker.send_bytes(b"".join(breach))

    return start


LOADING = message("loading", 1)
READY = LOADING + message("ready", 1)
DONE = message("done", 1, ["e", None], {}, 1, 2)

behaviours |= {
    "garbage_at_the_start": starting(b"\x05\0\0\0garbage"),
    "done_before_ready": starting(DONE),
    "never_loaded": starting(LOADING),
    "ready_without_loading": starting(message("ready", 1)),
    "loading_twice": starting(LOADING, LOADING),
    "ready_twice": starting(READY, message("ready", 1)),
    "done_while_idle": starting(READY, DONE),
    "need_while_idle": starting(READY, message("need", 1, 100)),
}


@behaviour
def hang_up_at_the_start(worker: Worker) -> None:
    worker.socket.close()


# Frames


@behaviour
def slow_frame(worker: Worker) -> None:
    worker.first_task()
    for byte in frame(pack(["failed", 1, "code", "x" * 1000, None, 1, 2])):
        worker.send_bytes(bytes([byte]))
        time.sleep(0.05)


@behaviour
def endless_frame(worker: Worker) -> None:
    worker.first_task()
    worker.send_bytes(struct.pack("<I", 64 * 1024))
    while True:
        worker.send_bytes(b"\x90")


def ending(number: signal.Signals) -> Callable[[Worker], None]:
    def end(worker: Worker) -> None:
        worker.send_bytes(message("done", worker.first_task().task_id, ["e", None], {}, 1, 2)[:20])
        os.kill(os.getpid(), number)

    return end


behaviours |= {"half_a_frame_and_stop": ending(signal.SIGSTOP)}
behaviours |= {"half_a_frame_and_die": ending(signal.SIGKILL)}


# One breach instead of an answer

NOTHING: list[Any] = ["e", None]
EMPTY_RASTER: list[Any] = ["r", None, [0, 2**62, 2**62], "<c16"]


def saying(breach: Callable[[Task], bytes]) -> Callable[[Worker], None]:
    def say(worker: Worker) -> None:
        worker.send_bytes(breach(worker.first_task()))

    return say


def failure(task: Task) -> bytes:
    return pack(["failed", task.task_id, "code", "text", None, 1, 2])


def with_info(task: Task, value: Any) -> bytes:
    return message("done", task.task_id, NOTHING, {"a": value}, 1, 2)


behaviours |= {
    "garbage": saying(lambda _: frame(b"\xc1" * 5)),
    "another_protocol": saying(lambda _: b"GET / HTTP/1.1\r\nHost: supervisor\r\n\r\n"),
    "empty_frame": saying(lambda _: frame(b"")),
    "giant_frame": saying(lambda _: b"\xff\xff\xff\xff"),
    "two_messages_in_a_frame": saying(lambda task: frame(failure(task) + failure(task))),
    "unknown_tag": saying(lambda _: message("\x1b]0;owned\x07" * 1000, 1)),
    "message_of_the_supervisor": saying(lambda task: message("cancel", task.task_id)),
    "extra_field": saying(lambda task: message("done", task.task_id, NOTHING, {}, 1, 2, 3, 4, 5, 6)),
    "missing_field": saying(lambda task: message("done", task.task_id, NOTHING, {}, 1)),
    "wrong_type": saying(lambda task: message("done", str(task.task_id), NOTHING, {}, 1, 2)),
    "map_instead_of_array": saying(lambda task: frame(pack({"type": "done", "task_id": task.task_id, "output": NOTHING}))),
    "not_a_number_as_a_time": saying(lambda task: message("done", task.task_id, NOTHING, {}, float("nan"), 2)),
    "deep_nesting": saying(lambda task: with_info(task, Raw(b"\x91" * 50_000 + b"\xc0"))),
    "text_that_is_none": saying(lambda task: message("failed", task.task_id, Raw(b"\xa4\xff\xfe\xfd\xfc"), "text", None, 1, 2)),
    "extension_type": saying(lambda task: with_info(task, Raw(b"\xd6\xff\x00\x00\x00\x00"))),
    "promised_million_items": saying(lambda task: with_info(task, Raw(b"\xdd\xff\xff\xff\xff"))),
    "long_info": saying(lambda task: with_info(task, [None] * 900_000)),
    "many_messages_at_once": saying(lambda task: message("need", task.task_id, 1) * 1000),
    "done_for_another_task": saying(lambda task: message("done", task.task_id + 1, NOTHING, {}, 1, 2)),
    "failed_for_another_task": saying(lambda _: message("failed", 2**63, "code", "text", None, 1, 2)),
    "own_source_as_result": saying(lambda task: message("done", task.task_id, ["e", task.sources[0][1]], {}, 1, 2)),
    "empty_raster_that_no_array_can_hold": saying(lambda task: message("done", task.task_id, EMPTY_RASTER, {}, 1, 2)),
    "file_that_nobody_asked_for": saying(lambda task: message("done", task.task_id, ["w", 100], {}, 1, 2)),
    "need_less_than_nothing": saying(lambda task: message("need", task.task_id, -1)),
    "need_nothing": saying(lambda task: message("need", task.task_id, 0)),
    "need_twice": saying(lambda task: message("need", task.task_id, 20_000_000) * 2),
    "need_for_another_task": saying(lambda task: message("need", task.task_id + 1, 100)),
    "output_without_credit": saying(lambda task: message("output", task.task_id, "", ["e", None], {}, 1, 2)),
    "output_of_another_task": saying(lambda task: message("output", task.task_id + 1, "", ["e", None], {}, 1, 2)),
    "no_output_at_all": saying(lambda task: message("done", task.task_id, None, {}, 1, 2)),
}


# Answers


@behaviour
def done_twice(worker: Worker) -> None:
    task = worker.first_task()
    worker.echo(task)
    worker.done(task, ["e", None])


@behaviour
def stale_answer(worker: Worker) -> None:
    first = worker.first_task()
    worker.echo(first)
    worker.next_task()
    worker.done(first, ["e", None])


@behaviour
def late_answer(worker: Worker) -> None:
    task = worker.first_task()
    while worker.receive()[0] != "cancel":
        pass
    worker.echo(task)
    worker.serve()


@behaviour
def late_answer_twice(worker: Worker) -> None:
    task = worker.first_task()
    while worker.receive()[0] != "cancel":
        pass
    worker.send_bytes(frame(failure(task)) * 2)


@behaviour
def no_answer(worker: Worker) -> None:
    worker.first_task()


@behaviour
def stop_itself(worker: Worker) -> None:
    worker.first_task()
    os.kill(os.getpid(), signal.SIGSTOP)


@behaviour
def failure_with_control_characters(worker: Worker) -> None:
    worker.failed(worker.first_task(), "\x1b[2J\x00" * 50, "\x1b]0;owned\x07\r" * 5_000)
    worker.serve()


@behaviour
def longest_failure(worker: Worker) -> None:
    worker.failed(worker.first_task(), "code", "\u00e9" * 32_700)
    worker.serve()


@behaviour
def not_a_number_in_the_info(worker: Worker) -> None:
    task = worker.first_task()
    handle = worker.write(task, worker.source_of(task))
    worker.done(task, ["e", handle], {"__class__": float("nan"), "": [float("inf")], "\x1b[2J": 2**64 - 1})
    worker.serve()


# Handles


def claiming(change: Callable[[list[int]], list[Any]]) -> Callable[[Worker], None]:
    """Answer with a handle that differs from the right one, or with another output that is made from it."""

    def claim(worker: Worker) -> None:
        task = worker.first_task()
        output = change(worker.write(task, worker.source_of(task)))
        worker.done(task, ["e", output] if len(output) == 4 and isinstance(output[0], int) else output)

    return claim


behaviours |= {
    "next_generation": claiming(lambda h: [h[0], h[1], h[2], h[3] + 1]),
    "earlier_generation": claiming(lambda h: [h[0], h[1], h[2], h[3] - 1]),
    "unknown_segment": claiming(lambda h: [2, h[1], h[2], h[3]]),
    "inbox_instead_of_outbox": claiming(lambda h: [INBOX, h[1], h[2], h[3]]),
    "later_offset": claiming(lambda h: [h[0], h[1] + PAGE, h[2], h[3]]),
    "offset_of_the_status_block": claiming(lambda h: [h[0], 0, h[2], h[3]]),
    "offset_beyond_everything": claiming(lambda h: [h[0], 2**63, h[2], h[3]]),
    "negative_offset": claiming(lambda h: [h[0], -PAGE, h[2], h[3]]),
    "no_bytes": claiming(lambda h: [h[0], h[1], 0, h[3]]),
    "negative_length": claiming(lambda h: [h[0], h[1], -1, h[3]]),
    "too_many_bytes": claiming(lambda h: [h[0], h[1], 262_144 + 1, h[3]]),
    "raster_that_does_not_fit": claiming(lambda h: ["r", h, [2**40, 2**40, 3], "|u1"]),
    "raster_of_objects": claiming(lambda h: ["r", h, [1, 1, h[2] // 8], "|O8"]),
}


@behaviour
def freed_block(worker: Worker) -> None:
    handle = worker.echo(worker.first_task())
    worker.done(worker.next_task(), ["e", handle])


@behaviour
def bytes_where_a_file_was_asked_for(worker: Worker) -> None:
    worker.echo(worker.first_task())


# Memory


@behaviour
def need_more_than_there_is(worker: Worker) -> None:
    task = worker.first_task()
    worker.send("need", task.task_id, 2**63)
    assert worker.receive() == ["grant", task.task_id, None]
    worker.failed(task, "memory_limit", "it cannot be had")
    worker.serve()


@behaviour
def need_without_end(worker: Worker) -> None:
    task = worker.first_task()
    while True:
        worker.send("need", task.task_id, 2**63)
        worker.receive()


@behaviour
def need_without_reading(worker: Worker) -> None:
    task = worker.first_task()
    for _ in range(9_000):
        worker.send("need", task.task_id, 2**63)
        time.sleep(0.0003)  # else it is a flood to a loop that is late, and another limit comes first


@behaviour
def write_after_the_result_was_handed_out(worker: Worker) -> None:
    worker.echo(worker.first_task())
    worker.outbox[PAGE : PAGE + 1024 * 1024] = b"\xee" * 1024 * 1024
    worker.serve()


# The status block


def noting(tail: bytes) -> Callable[[Worker], None]:
    def note(worker: Worker) -> None:
        worker.outbox[:24] = struct.pack("<Q", worker.first_task().task_id) + tail
        os._exit(3)

    return note


behaviours |= {
    "wild_status": noting(struct.pack("<IId", 2**32 - 1, 2**32 - 1, float("nan"))),
    "wild_progress": noting(struct.pack("<IId", 0, 0, float("inf"))),
}


@behaviour
def denied_beginning(worker: Worker) -> None:
    worker.first_task()
    worker.outbox[:PAGE] = b"\xff" * PAGE
    os._exit(3)


# The process


@behaviour
def hang_up(worker: Worker) -> None:
    worker.first_task()
    worker.socket.close()


@behaviour
def stop_reading(worker: Worker) -> None:
    worker.ready()


@behaviour
def leave_a_grandchild(worker: Worker) -> None:
    worker.first_task()
    if os.fork():
        os._exit(0)


@behaviour
def leave_a_grandchild_of_its_own_session(worker: Worker) -> None:
    worker.first_task()
    if os.fork():
        os._exit(0)
    os.setsid()
    worker.socket.recv(1)  # it leaves when the supervisor hangs up: nothing may outlive the test
    os._exit(0)


def flooding(chunk: bytes) -> Callable[[Worker], None]:
    def flood(worker: Worker) -> None:
        worker.first_task()
        while True:
            os.write(2, chunk)

    return flood


behaviours |= {"flood_of_bytes_on_stderr": flooding(b"\x1b[2J" * 16_384)}
behaviours |= {"flood_of_lines_on_stderr": flooding(b"\n" * 65_536)}


@behaviour
def close_stderr(worker: Worker) -> None:
    os.close(1)
    os.close(2)
    worker.ready()
    worker.serve()


@behaviour
def send_descriptors(worker: Worker) -> None:
    task = worker.first_task()
    message = pack(["failed", task.task_id, "code", "text", None, 1, 2])
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0] * 100))
    worker.socket.sendmsg([frame(message)], [rights])
    worker.serve()


@behaviour
def ignore_retirement(worker: Worker) -> None:
    worker.echo(worker.first_task())
    while True:
        tag, *fields = worker.receive()
        if tag == "retire":
            linger()
        if tag == "run":
            task = Task(fields)
            worker.preallocated = task.grant or worker.preallocated
            worker.echo(task)


if __name__ == "__main__":
    evil_worker = Worker(*map(int, sys.argv[2:]))
    behaviours[sys.argv[1]](evil_worker)
    linger()
