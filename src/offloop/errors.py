"""All errors that offloop raises. The root is `OffloopError`.

- Wrong use by the caller: `InvalidTask`, `PoolClosed`, `PoolMisused`.
- Too much load: `QueueFull`, `QueueTimeout`, `TaskTimeout`.
- A defect of the source or the plugin: `TaskFailed`, `WorkerDied`, `TaskQuarantined`, `PluginError`.
- Too little memory: `MemoryLimitExceeded`, `SourceTooLarge`.
- A defect of offloop: `InternalError`.

An error builds its text from its arguments: what was asked, what there was, what to do.

`str(error)` and the error's notes are for the operator. Notes contain a worker's traceback and the end of its output, and
`logging.exception` shows them. `error.public_message` may be sent to a client.
"""

from __future__ import annotations

import signal as signals
from typing import Any, Literal

import msgspec

__all__ = [
    "CrashReport",
    "InternalError",
    "InvalidTask",
    "MemoryLimitExceeded",
    "OffloopError",
    "PluginError",
    "PoolClosed",
    "PoolMisused",
    "QueueFull",
    "QueueTimeout",
    "SourceTooLarge",
    "StreamAbandoned",
    "TaskFailed",
    "TaskQuarantined",
    "TaskTimeout",
    "WorkerDied",
]


class OffloopError(Exception):
    """Base class: `except OffloopError` catches every error that this library raises on purpose.

    All errors can be copied and pickled, for instance as the answer of a job queue.
    """

    @property
    def public_message(self) -> str:
        """One sentence that may be sent to a client. It contains no output of a worker, no traceback, no path, and no text of a
        plugin's unexpected exception."""
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__
        if "__notes__" in state:
            # a copy of the list, because a note that is added to the copy must not change the original
            state = {**state, "__notes__": list(state["__notes__"])}
        return _restore, (type(self), self.args), state


class InvalidTask(OffloopError, ValueError):
    """The task is invalid as it was written, so submitting it again does not help. Nothing was started."""

    def __init__(self, message: str, *, public_message: str | None = None) -> None:
        self._public_message = public_message  # text for a client if `message` contains a path; None: `message`
        super().__init__(message)

    @property
    def public_message(self) -> str:
        return self._public_message or str(self)


class QueueFull(OffloopError):
    """The pool refused a task at once, because the waiting tasks reach `max_queue` or their sources `max_queue_bytes`. Try
    again later, or on another server."""

    def __init__(self, queued: int, max_queue: int, *, unit: Literal["tasks", "bytes"] = "tasks", asked_bytes: int = 0) -> None:
        self.queued = queued  # waiting tasks, or bytes of their sources, at the refusal
        self.max_queue = max_queue  # limit of the pool, in the same unit
        self.unit = unit  # unit of `queued` and `max_queue`
        self.asked_bytes = asked_bytes  # size of the refused source in bytes; 0 if `unit` is "tasks"
        limit = "max_queue" if unit == "tasks" else "max_queue_bytes"
        asked = f", and this source has {asked_bytes:,}" if asked_bytes else ""
        super().__init__(f"{queued:,} {unit} already wait{asked}; the limit is {limit}={max_queue}: try again later")


class QueueTimeout(OffloopError, TimeoutError):
    """The task waited longer than its `queue_timeout`, or was expected to. It was never started."""

    def __init__(self, queue_timeout_s: float, waiting_for: str, *, expected_s: float | None = None) -> None:
        self.queue_timeout_s = queue_timeout_s  # the task's limit in seconds
        self.waiting_for = waiting_for  # "a worker" or "memory"
        self.expected_s = expected_s  # minimum expected waiting time in seconds; None: the task has waited
        would = f"would have to wait {expected_s:.3g} s, longer than its" if expected_s is not None else "waited"
        super().__init__(f"the task {would} {queue_timeout_s:g} s for {waiting_for} and was not started")


class TaskTimeout(OffloopError, TimeoutError):
    """The task ran longer than its `timeout`. It was told to stop; if it did not, its worker was killed. Or the task was not
    started, because tasks of the same kind take longer than its `timeout`."""

    def __init__(
        self,
        timeout_s: float,
        *,
        obeyed: bool = True,
        running: str | None = None,
        expected_s: float | None = None,
        is_shared: bool = False,
    ) -> None:
        self.timeout_s = timeout_s  # the task's limit in seconds
        self.obeyed = obeyed  # whether the task stopped when told to; False: its worker was killed
        self.running = running  # the operation that was running; None: unknown
        self.expected_s = expected_s  # expected running time in seconds; None: the task was started
        if expected_s is not None:
            super().__init__(f"the task has {timeout_s:g} s, and tasks like it take {expected_s:.3g} s: it was not started")
            return
        if is_shared:
            super().__init__(f"the task exceeded the {timeout_s:g} s of this call, and goes on for other calls")
            return
        how = "stopped when told to" if obeyed else "did not stop when told to, so its worker was killed"
        super().__init__(f"the task exceeded its {timeout_s:g} s{_during(running)} and {how}")


class StreamAbandoned(OffloopError, TimeoutError):
    """The reader of a stream took no frame for so long that the task was ended. The frames that came before can be read."""

    def __init__(self, idle_timeout_s: float) -> None:
        self.idle_timeout_s = idle_timeout_s  # the limit in seconds
        super().__init__(f"the stream was ended, because no frame was read for {idle_timeout_s:g} s")


class TaskFailed(OffloopError):
    """A processor refused the task or failed. The worker can run other tasks.

    Processors raise it with a `code` that callers can branch on. Any other exception of a processor reaches the caller as a
    `TaskFailed` with the code "exception". If a processor raises it with `recycle=True`, because the processor may be broken,
    its worker gets no other task and is replaced.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        remote_traceback: str | None = None,
        recycle: bool = False,
        exception_type: str | None = None,
    ) -> None:
        self.code = code  # stable identifier: "unsupported_format", "corrupt_source", "exception", ...
        self.message = message  # description of the failure
        self.remote_traceback = remote_traceback  # the worker's traceback as text; None: it has none
        self.recycle = recycle  # whether the worker is replaced
        self.exception_type = exception_type  # type of the exception if the code is "exception": "ValueError", "module.Type"
        super().__init__(code, message)
        _note(self, "the worker's traceback", remote_traceback)

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"

    @property
    def public_message(self) -> str:
        """The code and the message. If the message was not written for clients, the code and a general sentence."""
        return f"[{self.code}] {_GENERAL_MESSAGES.get(self.code, self.message)}"


_GENERAL_MESSAGES = {
    "exception": "the processor failed unexpectedly",  # because the message is the text of an arbitrary exception
    "cannot_write": "the result could not be written",  # because the message contains a path of the server
}


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """Report on a worker process that died. Fields from its status page and output are hints, because a worker is not
    trusted."""

    pid: int | None  # process id; None: no process was started
    exit_code: int | None  # as in `subprocess`: negative for a signal; None: no process was started, or the code is unknown
    reason: str | None  # reason why offloop killed it, or could not start it; None: it died by itself
    task_id: int | None  # id of its task; None: it had no task
    labels: dict[str, str] = {}  # labels of its task
    running: str | None  # plugin, names and progress of the running operations; None: unknown, or none ran
    progress: float | None  # progress of the running operations, from 0 to 1; None: none ran
    memory_bytes: int | None  # last sample of its private memory in bytes; None: none was taken
    traceback: str  # the fault handler's traceback of all threads; empty: it wrote none
    stderr_tail: str  # end of its stdout and stderr since it was sent its last task
    recent_transitions: tuple[str, ...]  # last transitions of its slot's state, oldest first
    tasks: int  # number of tasks that it was sent
    age_s: float | None  # seconds since it became ready; None: it never did

    @property
    def signal(self) -> signals.Signals | int | None:
        """The signal that ended the process; None if it exited."""
        return _signal_of(self.exit_code)

    @property
    def cause(self) -> str:
        """How the process ended, and the operations that were running, in one line."""
        return f"{_end_of(self.exit_code, self.reason)}{_during(self.running)}"


class WorkerDied(OffloopError):
    """The worker process ended while it ran the task: by itself, or because it broke the protocol and was killed.

    The worker's output during the task is in `stderr_tail` and in the error's notes, but never in `str(error)`.
    """

    def __init__(
        self,
        exit_code: int | None,
        *,
        reason: str | None = None,
        running: str | None = None,
        stderr_tail: str = "",
        report: CrashReport | None = None,
    ) -> None:
        self.exit_code = exit_code if exit_code is None or exit_code >= 0 else None  # None: a signal ended it, or it is unknown
        self.signal = _signal_of(exit_code)  # `signal.Signals`, or the number of a signal without a name; None: it exited
        self.reason = reason  # reason why offloop killed it; None: it died by itself
        self.running = running  # the operation that was running; None: unknown
        self.stderr_tail = stderr_tail  # end of the worker's stdout and stderr during this task
        self.report = report  # report on the worker process; None: there is none
        super().__init__(f"the worker {_end_of(exit_code, reason)}{_during(running)}")
        _note(self, "the worker's output ended with", stderr_tail)

    @property
    def public_message(self) -> str:
        """A sentence that the worker died, without the reason, because that may contain a path of the server."""
        return f"the worker process that had the task died{_during(self.running)}"


class TaskQuarantined(OffloopError):
    """The same source with the same pipeline has killed workers. It is refused until the quarantine time has passed."""

    def __init__(self, deaths: int, seconds_left: float) -> None:
        self.deaths = deaths  # number of workers that it has killed
        self.seconds_left = seconds_left  # seconds until it is admitted again
        super().__init__(
            f"this source with this pipeline has killed {deaths} workers; it is refused for another {seconds_left:.0f} s"
        )


class MemoryLimitExceeded(OffloopError, MemoryError):
    """The pool has not enough memory for a request: it never will, or others hold the memory now (`is_temporary`).

    A task that reaches the limit of its private memory in its worker fails with `TaskFailed` and the code "memory_limit".
    """

    def __init__(
        self,
        asked_bytes: int,
        limit_bytes: int,
        *,
        limited_by: str = "the pool's memory_limit",
        what: str = "shared memory",
        advice: str = "",
        is_temporary: bool = False,
    ) -> None:
        self.asked_bytes = asked_bytes  # requested bytes
        self.limit_bytes = limit_bytes  # available bytes
        self.limited_by = limited_by  # name of the limit
        self.what = what  # kind of memory: "shared memory", or "memory" by the task's estimate
        self.is_temporary = is_temporary  # whether the same request may succeed later, because others hold the memory now
        text = f"{asked_bytes:,} bytes of {what} were needed, but {limited_by} is {limit_bytes:,} bytes"
        super().__init__(f"{text}; {advice}" if advice else text)


class SourceTooLarge(MemoryLimitExceeded):
    """A source that `Pool.receive` read piece by piece is longer than its `max_bytes`."""

    def __init__(self, asked_bytes: int, limit_bytes: int) -> None:
        super().__init__(asked_bytes, limit_bytes, limited_by="the limit for this source (max_bytes)")


class PluginError(OffloopError):
    """A plugin cannot be used: it is broken, missing, or was refused when it was registered."""

    def __init__(
        self, plugin: str, reason: str, *, distribution: str | None = None, remote_traceback: str | None = None
    ) -> None:
        self.plugin = plugin  # name of the plugin
        self.distribution = distribution  # name and version of its distribution; None: it comes from no installed one
        self.reason = reason  # reason why it cannot be used
        self.remote_traceback = remote_traceback  # the worker's traceback as text; None: the error was found in the server
        origin = f" (from {distribution})" if distribution else ""
        super().__init__(f"plugin {plugin!r}{origin}: {reason}")
        _note(self, "the worker's traceback", remote_traceback)

    @property
    def public_message(self) -> str:
        """A sentence with the plugin's name, without the reason, because that may be the text of an arbitrary exception."""
        return f"the plugin {self.plugin!r} cannot be used"


class PoolClosed(OffloopError):
    """The pool is not open: it is not yet entered, closing, or closed. Unsettled tasks of a closing pool end with this
    error."""

    def __init__(self, what: str = "the pool is closed") -> None:
        super().__init__(f"{what}: use it inside `async with Pool() as pool`")

    @property
    def public_message(self) -> str:
        return "the service is not available at the moment"


class PoolMisused(OffloopError, RuntimeError):
    """The pool was used outside the process, the thread or the event loop in which it was entered. Nothing was done. Or a pool
    cannot be used here at all: on another system than Linux, in a program that cannot start workers, in a process that was
    started to be a worker, or with `sandbox="strict"` on a kernel that lacks a layer. Or one stream or batch of results was
    read by two tasks, or outside its block."""

    def __init__(
        self,
        what: Literal["process", "thread", "event loop", "system", "program", "worker", "main", "stream", "sandbox"],
        home: str,
        here: str,
    ) -> None:
        self.what = what  # kind of place that does not match
        self.home = home  # place of the pool: a pid, a thread's name, a loop; or the place where a pool can be used
        self.here = here  # place of the call; or what is wrong with it
        if what in _NO_PLACE:
            super().__init__(_NO_PLACE[what].format(here=here))
        else:
            super().__init__(f"the pool belongs to {what} {home}, and this call comes from {what} {here}: {_REMEDIES[what]}")

    @property
    def public_message(self) -> str:
        return _INTERNAL


_REMEDIES = {
    "process": "a forked child can neither use nor end its parent's pool; make one of its own after the fork",
    "thread": "use anyio.from_thread.run or asyncio.run_coroutine_threadsafe to call it where it lives, or make one here",
    "event loop": "call it in the loop that entered it, or make one here",
}

_NO_PLACE = {
    "stream": "{here}",
    "sandbox": "sandbox='strict', and this system lacks: {here}",
    "system": "offloop runs on Linux only, and this system is {here}",
    "program": "workers cannot be started, because {here} is not a Python interpreter: let this program call "
    "offloop.freeze_support() first in its main, or give the path of an interpreter as Pool(executable=...)",
    "main": "a worker loads {here} to find its functions, and that enters a pool, whose workers would load it again: put "
    "everything but definitions below `if __name__ == '__main__':`",
    "worker": "this process was started as a worker, but {here} runs as a program of its own, and would start itself "
    "without end: give the path of a Python interpreter as Pool(executable=...)",
}


class InternalError(OffloopError):
    """A defect in offloop itself. Please report it with the traceback."""

    @property
    def public_message(self) -> str:
        return _INTERNAL


_INTERNAL = "an internal error of the service"


def _note(error: OffloopError, title: str, text: str | None) -> None:
    if text:
        error.add_note(f"{title}:\n{text}")


def _restore(kind: type[OffloopError], args: tuple[Any, ...]) -> OffloopError:
    """Create an error from its text without calling `__init__`, which would build the text again."""
    base: Any = kind
    while base.__module__ != "builtins":  # finds the built-in exception whose `__new__` accepts `kind`
        base = base.__base__
    error: OffloopError = base.__new__(kind)
    error.args = args
    return error


def _end_of(exit_code: int | None, reason: str | None) -> str:
    signal = _signal_of(exit_code)
    if reason is not None:
        return f"was killed: {reason}" if exit_code is not None else f"is lost: {reason}"
    if signal is not None:
        return f"was ended by {getattr(signal, 'name', f'signal {signal}')}"
    if exit_code is None:
        return "died, and something else in the server took its exit code (by waiting for any child, or by ignoring SIGCHLD)"
    return f"exited with code {exit_code}"


def _during(running: str | None) -> str:
    return f" during {running}" if running else ""


def _signal_of(exit_code: int | None) -> signals.Signals | int | None:
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signals.Signals(-exit_code)
    except ValueError:  # a real-time signal
        return -exit_code
