"""`concurrent.futures.Executor` over a pool, for code that takes an executor: `loop.run_in_executor`, threads, libraries."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio

from ..errors import PoolClosed
from ..runtime.loop.affinity import LoopAffinity
from ..runtime.loop.background import BackgroundTasks

__all__ = ["PoolExecutor"]

ValueT = TypeVar("ValueT")
P = ParamSpec("P")


class PoolExecutor(concurrent.futures.Executor):
    """Executor whose calls are calls of `Pool.call`. Any thread may use it.

    A future that is cancelled stops its function, also while that runs. So a future counts as pending until its function has
    ended. When the pool is closed, unfinished futures have the error `PoolClosed`.
    """

    def __init__(self, call: Callable[..., Awaitable[Any]], affinity: LoopAffinity, background: BackgroundTasks) -> None:
        """Create it in the pool's thread. `call`: `Pool.call` with its options."""
        self._call = call
        self._affinity = affinity
        self._background = background
        self._run_soon = _run_soon_of(affinity)
        self._unfinished: set[concurrent.futures.Future[Any]] = set()
        self._is_shut_down = False
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, ValueT], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[ValueT]:
        """Call a function in a worker: `fn(*args, **kwargs)`, as `Pool.call`. Its errors are those of the future.

        Raises:
            RuntimeError: the executor was shut down.
        """
        future: concurrent.futures.Future[ValueT] = concurrent.futures.Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("this executor was shut down, so it takes no more functions")
            self._unfinished.add(future)
        future.add_done_callback(self._forget)
        self._soon(partial(self._start, future, partial(self._call, fn, *args, **kwargs)), future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more functions. The pool stays open.

        Args:
            wait: whether to block until all futures are done. In the pool's own thread that is not possible.
            cancel_futures: whether to cancel the futures that are not done, which stops their functions.

        Raises:
            RuntimeError: `wait` in the pool's thread, with unfinished futures, because they need that thread.
        """
        with self._lock:
            self._is_shut_down = True
            unfinished = list(self._unfinished)
        if cancel_futures:
            for future in unfinished:
                future.cancel()
            return
        if wait and unfinished:
            if self._affinity.is_current:
                raise RuntimeError(f"{len(unfinished)} futures need this thread to finish; await them, or shutdown(wait=False)")
            concurrent.futures.wait(unfinished)

    def _start(self, future: concurrent.futures.Future[Any], call: Callable[[], Awaitable[Any]]) -> None:
        """Start the call, in the pool's thread."""
        if self._background.closed:
            _set_error(future, PoolClosed())
            return
        self._background.run(partial(self._work, future, call), until_closed=True)

    async def _work(self, future: concurrent.futures.Future[Any], call: Callable[[], Awaitable[Any]]) -> None:
        scope = anyio.CancelScope()
        future.add_done_callback(partial(self._cancel_scope, scope))
        try:
            with scope:
                value = await call()
                if future.set_running_or_notify_cancel():
                    future.set_result(value)
                return
            future.set_running_or_notify_cancel()  # it was cancelled, and `concurrent.futures.wait` has to know
        except Exception as error:
            _set_error(future, error)
        except BaseException:  # the pool is closing
            _set_error(future, PoolClosed())
            raise

    def _cancel_scope(self, scope: anyio.CancelScope, future: concurrent.futures.Future[Any]) -> None:
        if future.cancelled():
            self._soon(scope.cancel, future)

    def _soon(self, function: Callable[[], object], future: concurrent.futures.Future[Any]) -> None:
        """Call a function in the pool's thread."""
        if self._affinity.is_current:
            function()
            return
        try:
            self._run_soon(function)
        except RuntimeError:  # the loop has ended; trio's error is one, too
            _set_error(future, PoolClosed())

    def _forget(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._unfinished.discard(future)


def _set_error(future: concurrent.futures.Future[Any], error: Exception) -> None:
    with suppress(concurrent.futures.InvalidStateError):
        if future.set_running_or_notify_cancel():
            future.set_exception(error)


def _run_soon_of(affinity: LoopAffinity) -> Callable[[Callable[[], object]], object]:
    """Returns the function with which other threads have the loop call a function."""
    if affinity.loop is not None:
        return affinity.loop.call_soon_threadsafe
    import trio  # noqa: PLC0415 (imported already: its loop is running)

    return trio.lowlevel.current_trio_token().run_sync_soon
