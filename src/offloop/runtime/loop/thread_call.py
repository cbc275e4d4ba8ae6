"""A function call that a thread makes for a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, TypeVarTuple, Unpack

from ...errors import PoolClosed

__all__ = ["ThreadCall"]

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


class ThreadCall(Generic[*Arguments, Value]):
    """One function call that a thread makes, or its caller withdraws. What was given and what came of it is let go of at once:
    a thread that idles keeps a reference to what it ran last."""

    def __init__(self, function: Callable[[Unpack[Arguments]], Value], arguments: tuple[*Arguments]) -> None:
        self._work = [(function, arguments)]  # popping it is atomic: it goes to the thread, or back to the caller
        self._result: list[Value] = []
        self._error: list[BaseException] = []

    def __call__(self) -> None:
        try:
            function, arguments = self._work.pop()
        except IndexError:
            return  # withdrawn, or begun before
        try:
            self._result.append(function(*arguments))
        except BaseException as error:  # SystemExit too: it is for the caller, and ends no task of the pool
            self._error.append(error)

    def withdraw(self) -> bool:
        """Take the work back. Returns whether it had not begun."""
        try:
            self._work.pop()
        except IndexError:
            return False
        return True

    def take_result(self) -> Value:
        """What the function returned; what it raised is raised here, or `PoolClosed` if it has not ended."""
        if self._error:
            raise self._error.pop()  # this frame, which its traceback refers to, must not refer to it
        if not self._result:
            raise PoolClosed("the event loop ended while the pool was open")
        return self._result.pop()
