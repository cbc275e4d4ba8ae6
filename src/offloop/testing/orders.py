"""Orders for fault injection: a fault, and the point at which a worker has it, such as "exit 42 at mid-pixels"."""

from __future__ import annotations

import signal
from enum import Enum

import msgspec

from ..errors import InvalidTask

__all__ = ["Fault", "Order", "OrderError", "Point"]

_MAX_EXIT_CODE = 255


class Point(Enum):
    """Point at which a worker has the fault. The members are in the order in which a worker passes them."""

    STARTING = "starting"  # the process is started and has not sent Ready; see `offloop.testing.FaultyStarts`
    BEFORE_ACCEPT = "before-accept"  # the worker has received the next task and not begun it
    ACCEPTED = "accepted"  # the order's task has begun and has done nothing yet
    MID_INPUT = "mid-input"  # the task has read half of the source
    WAITING_FOR_GRANT = "waiting-for-grant"  # the task has requested result memory, and has no answer
    WHILE_GRANTED = "while-granted"  # the task has a block of result memory, and has written nothing to it
    MID_PIXELS = "mid-pixels"  # the task has written half of the result
    BEFORE_REPLY = "before-reply"  # the result is complete, and no byte of the answer has been sent
    REPLY_BYTE_1 = "reply-byte-1"  # one byte of the answer has been sent
    REPLY_HALF = "reply-half"  # half of the answer has been sent
    REPLY_LAST = "reply-last"  # all of the answer but its last byte has been sent
    AFTER_REPLY = "after-reply"  # all of the answer has been sent, and nothing has been read since
    IDLE = "idle"  # the worker has answered, and has waited for the next task for 20 ms


class Fault(Enum):
    """Fault of a worker."""

    EXIT = "exit"  # the process ends at once with a code: "exit 42"
    SIGNAL = "signal"  # the process sends itself a signal, by its name: "SIGSEGV"; an ignored signal has no effect
    STOP = "stop"  # SIGSTOP: all threads stop; after a SIGCONT they continue
    HANG = "hang"  # the main thread sleeps for ever
    SPIN = "spin"  # the main thread loops for ever and never releases the GIL
    CLOSE = "close"  # the process closes its sending half: the supervisor reads the end of the channel, but the process lives
    GARBAGE = "garbage"  # the process sends bytes that are not a message, and sleeps


class OrderError(InvalidTask):
    """The text is not a valid order. The message lists the faults and the points."""

    def __init__(self, text: str, objection: str) -> None:
        self.text = text  # the invalid text
        faults = "exit CODE, SIGKILL (or any other signal's name), " + ", ".join(fault.value for fault in _WORDS.values())
        points = ", ".join(point.value for point in Point)
        super().__init__(f"{text!r} is no order: {objection}. Write FAULT at POINT. Faults: {faults}. Points: {points}")


_IN_PROCESSOR = {Point.ACCEPTED, Point.MID_INPUT, Point.WHILE_GRANTED, Point.MID_PIXELS}
_OF_CHANNEL = {Fault.CLOSE, Fault.GARBAGE}

_WORDS = {fault.value: fault for fault in Fault if fault not in (Fault.EXIT, Fault.SIGNAL)}
_POINTS = {point.value: point for point in Point}


class Order(msgspec.Struct, frozen=True):
    """A fault at a point. `parse` accepts the text of `str(order)`."""

    fault: Fault
    point: Point
    number: int | None = None  # exit code of EXIT, or signal number of SIGNAL; None: other faults have no number

    @classmethod
    def parse(cls, text: str | bytes) -> Order:
        """Parse an order. Points may be written with spaces: "SIGKILL at reply byte 1".

        Raises:
            OrderError: the text is not a valid order.
        """
        line = text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")
        fault_text, at, point_text = line.strip().partition(" at ")
        if not at:
            raise OrderError(line, 'there is no " at " in it')
        point = _POINTS.get("-".join(point_text.lower().split()))
        if point is None:
            raise OrderError(line, f"there is no point {point_text!r}")
        fault, number = _parse_fault(fault_text.strip(), line)
        return cls(fault, point, number)

    @property
    def needs_faulty_worker(self) -> bool:
        """Whether only a worker of `FaultyWorkers` can carry out the order: its point is in the worker's own code, or its fault
        is one of the channel."""
        return self.point not in _IN_PROCESSOR or self.fault in _OF_CHANNEL

    def __str__(self) -> str:
        match self.fault:
            case Fault.EXIT:
                fault_text = f"exit {self.number}"
            case Fault.SIGNAL:
                assert self.number is not None
                fault_text = signal.Signals(self.number).name
            case _:
                fault_text = self.fault.value
        return f"{fault_text} at {self.point.value}"


def _parse_fault(text: str, line: str) -> tuple[Fault, int | None]:
    word, _, rest = text.partition(" ")
    if word == Fault.EXIT.value:
        if not rest.isascii() or not rest.isdigit() or int(rest) > _MAX_EXIT_CODE:
            raise OrderError(line, f"an exit code is a number from 0 to {_MAX_EXIT_CODE}, not {rest!r}")
        return Fault.EXIT, int(rest)
    if text in _WORDS:
        return _WORDS[text], None
    if text in signal.Signals.__members__:
        return Fault.SIGNAL, signal.Signals[text].value
    raise OrderError(line, f"there is no fault {text!r}")
