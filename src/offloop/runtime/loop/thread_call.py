"""A function call in a thread, which its caller can withdraw before it has begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, TypeVarTuple, Unpack

from ...errors import PoolClosed

__all__ = ["ThreadCall"]

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


class ThreadCall(Generic[*Arguments, Value]):
    """One function call that a thread runs or the caller withdraws.

    References to arguments and result are dropped early, because an idle thread keeps a reference to the last call.
    """

    def __init__(self, function: Callable[[Unpack[Arguments]], Value], arguments: tuple[*Arguments]) -> None:
        self._work = [(function, arguments)]  # popped by the thread or by the caller, atomically
        self._result: list[Value] = []
        self._error: list[BaseException] = []

    def __call__(self) -> None:
        try:
            function, arguments = self._work.pop()
        except IndexError:
            return  # it was withdrawn, or has begun in another call
        try:
            self._result.append(function(*arguments))
        except BaseException as error:  # SystemExit too, because it must reach the caller and not end a background task
            self._error.append(error)

    def withdraw(self) -> bool:
        """Cancel the call if it has not begun. Returns whether that succeeded."""
        try:
            self._work.pop()
        except IndexError:
            return False
        return True

    def pop_result(self) -> Value:
        """Return the result and forget it, or raise the function's error.

        Raises:
            PoolClosed: the function has not ended.
        """
        if self._error:
            raise self._error.pop()  # popped, because its traceback refers to this frame: a reference cycle otherwise
        if not self._result:
            raise PoolClosed("the event loop ended while the pool was open")
        return self._result.pop()
