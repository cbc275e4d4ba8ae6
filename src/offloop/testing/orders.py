"""Orders: which fault, and at which point of a worker's way. "exit 42 at mid-pixels"."""

from __future__ import annotations

import signal
from enum import Enum

import msgspec

from ..errors import InvalidTask

__all__ = ["Fault", "Order", "OrderError", "Point"]

_MAX_EXIT_CODE = 255


class Point(Enum):
    """Where on a worker's way the fault happens, in the order in which a worker passes them."""

    STARTING = "starting"  # there is a process, and it has not said Ready; see `offloop.testing.FaultyStarts`
    OPENING = "opening"  # the next plugin that this worker opens, after the order's own task
    BEFORE_ACCEPT = "before-accept"  # the next task has been received and not begun
    ACCEPTED = "accepted"  # the order's task has begun and has done nothing yet
    MID_INPUT = "mid-input"  # half of the source has been read
    WAITING_FOR_GRANT = "waiting-for-grant"  # result memory was asked for, and no answer has come
    WHILE_GRANTED = "while-granted"  # a block of result memory is there, and nothing has been written to it
    MID_PIXELS = "mid-pixels"  # half of the result has been written
    BEFORE_REPLY = "before-reply"  # the result is there, and nothing of the answer has been sent
    REPLY_BYTE_1 = "reply-byte-1"  # one byte of the answer has been sent
    REPLY_HALF = "reply-half"  # half of it
    REPLY_LAST = "reply-last"  # all but its last byte
    AFTER_REPLY = "after-reply"  # all of it, and nothing has been read since
    IDLE = "idle"  # it has answered, waits for the next task, and none has come for 20 ms


class Fault(Enum):
    """What happens there."""

    EXIT = "exit"  # the process ends at once with a code: "exit 42"
    SIGNAL = "signal"  # it sends itself a signal, by its name: "SIGSEGV"; one that it ignores changes nothing
    STOP = "stop"  # SIGSTOP: all its threads stand still; after a SIGCONT it goes on with its work
    HANG = "hang"  # its main thread sleeps for ever
    SPIN = "spin"  # its main thread works for ever and never lets go of the GIL
    CLOSE = "close"  # it sends nothing more: the supervisor sees the end of the channel, and a process that lives
    GARBAGE = "garbage"  # it sends what is no message, and sleeps


class OrderError(InvalidTask):
    """The text is no order; the message lists the faults and the points."""

    def __init__(self, text: str, objection: str) -> None:
        self.text = text
        faults = "exit CODE, SIGKILL (or any other signal's name), " + ", ".join(fault.value for fault in _WORDS.values())
        points = ", ".join(point.value for point in Point)
        super().__init__(f"{text!r} is no order: {objection}. Write FAULT at POINT. Faults: {faults}. Points: {points}")


_WORDS = {fault.value: fault for fault in Fault if fault not in (Fault.EXIT, Fault.SIGNAL)}
_POINTS = {point.value: point for point in Point}


class Order(msgspec.Struct, frozen=True):
    """One fault at one point. `str(order)` is text that `parse` understands."""

    fault: Fault
    point: Point
    number: int | None = None  # the exit code of EXIT, the signal's number of SIGNAL

    @classmethod
    def parse(cls, text: str | bytes) -> Order:
        """Read an order. Points may be written with spaces: "SIGKILL at reply byte 1".

        Raises:
            OrderError: it is none.
        """
        line = text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")
        what, at, where = line.strip().partition(" at ")
        if not at:
            raise OrderError(line, 'there is no " at " in it')
        point = _POINTS.get("-".join(where.lower().split()))
        if point is None:
            raise OrderError(line, f"there is no point {where!r}")
        fault, number = _fault_of(what.strip(), line)
        return cls(fault, point, number)

    def __str__(self) -> str:
        match self.fault:
            case Fault.EXIT:
                what = f"exit {self.number}"
            case Fault.SIGNAL:
                assert self.number is not None
                what = signal.Signals(self.number).name
            case _:
                what = self.fault.value
        return f"{what} at {self.point.value}"


def _fault_of(what: str, line: str) -> tuple[Fault, int | None]:
    word, _, rest = what.partition(" ")
    if word == Fault.EXIT.value:
        if not rest.isascii() or not rest.isdigit() or int(rest) > _MAX_EXIT_CODE:
            raise OrderError(line, f"an exit code is a number from 0 to {_MAX_EXIT_CODE}, not {rest!r}")
        return Fault.EXIT, int(rest)
    if what in _WORDS:
        return _WORDS[what], None
    if what in signal.Signals.__members__:
        return Fault.SIGNAL, signal.Signals[what].value
    raise OrderError(line, f"there is no fault {what!r}")
