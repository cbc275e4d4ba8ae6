"""Every error that offloop raises, one tree, branched by who has to act.

The caller: `InvalidTask`, `PoolClosed`, `PoolMisused`. Whoever sends the load: `QueueFull`, `QueueTimeout`, `TaskTimeout`.
Whoever owns the source or the plugin: `TaskFailed`, `WorkerDied`, `TaskQuarantined`, `PluginError`. Whoever sizes the machine:
`MemoryLimitExceeded`. Nobody but us: `InternalError`.

An error is built from its arguments and writes its own sentence: what was asked, what there was, what to do.

Two readers, two texts. `str(error)` and the error's notes are for the operator: notes hold a worker's traceback and the end of
its output, and `logging.exception` shows them. `error.public_message` may be sent to a client.
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
    "TaskFailed",
    "TaskQuarantined",
    "TaskTimeout",
    "WorkerDied",
]


class OffloopError(Exception):
    """The root: `except OffloopError` catches all that this library raises on purpose.

    Each can be copied and pickled, for instance to be a job queue's answer.
    """

    @property
    def public_message(self) -> str:
        """One sentence that may be sent to a client: no output of a worker, no traceback, no path, no text of a plugin's
        unexpected exception."""
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__
        if "__notes__" in state:
            state = {
                **state,
                "__notes__": list(state["__notes__"]),
            }  # because a note that is added to a copy is the copy's alone
        return _as_it_was, (type(self), self.args), state


class InvalidTask(OffloopError, ValueError):
    """The task cannot be carried out as it was written; submitting it again will not help. Nothing was started."""

    def __init__(self, message: str, *, public_message: str | None = None) -> None:
        self._public_message = public_message  # where the message names a file of the server; None: the message itself
        super().__init__(message)

    @property
    def public_message(self) -> str:
        return self._public_message or str(self)


class QueueFull(OffloopError):
    """The pool refuses a task at once because as much as `max_queue` or `max_queue_bytes` allows already waits. Try later, or
    elsewhere."""

    def __init__(self, queued: int, max_queue: int, *, unit: Literal["tasks", "bytes"] = "tasks", asked_bytes: int = 0) -> None:
        self.queued = queued  # tasks, or bytes of sources, that wait now
        self.max_queue = max_queue  # the limit that the pool was made with, in the same unit
        self.unit = unit
        self.asked_bytes = asked_bytes  # of the source that was one too many; 0 where tasks are counted
        limit = "max_queue" if unit == "tasks" else "max_queue_bytes"
        asked = f", and this source has {asked_bytes:,}" if asked_bytes else ""
        super().__init__(f"{queued:,} {unit} already wait{asked}; the limit is {limit}={max_queue}: try again later")


class QueueTimeout(OffloopError, TimeoutError):
    """The task waited for longer than its `queue_timeout`, or would have had to, and was never started."""

    def __init__(self, queue_timeout_s: float, waiting_for: str, *, expected_s: float | None = None) -> None:
        self.queue_timeout_s = queue_timeout_s
        self.waiting_for = waiting_for  # "a worker" or "memory"
        self.expected_s = expected_s  # how long it would have waited at least; None: it has waited
        would = f"would have to wait {expected_s:.3g} s, longer than its" if expected_s is not None else "waited"
        super().__init__(f"the task {would} {queue_timeout_s:g} s for {waiting_for} and was not started")


class TaskTimeout(OffloopError, TimeoutError):
    """The task ran for longer than its `timeout`: it was told to stop and, if it did not, its worker was killed. Or tasks like
    it take so much longer that it was not started."""

    def __init__(
        self, timeout_s: float, *, obeyed: bool = True, running: str | None = None, expected_s: float | None = None
    ) -> None:
        self.timeout_s = timeout_s
        self.obeyed = obeyed  # True: it stopped when told to; False: its worker had to be killed
        self.running = running  # the operation that was under way, where known
        self.expected_s = expected_s  # how long tasks like it take; None: it was started
        if expected_s is not None:
            super().__init__(f"the task has {timeout_s:g} s, and tasks like it take {expected_s:.3g} s: it was not started")
            return
        how = "stopped when told to" if obeyed else "did not stop when told to, so its worker was killed"
        super().__init__(f"the task exceeded its {timeout_s:g} s{_during(running)} and {how}")


class TaskFailed(OffloopError):
    """A processor refused or failed to carry the task out. The worker is well and goes on.

    Processors raise it themselves, with a `code` that callers can branch on. Any other exception of theirs reaches the caller
    as a `TaskFailed` whose code is "exception". With `recycle=True` a processor says that it may be broken: its worker gets
    no other task and is replaced.
    """

    def __init__(self, code: str, message: str, *, remote_traceback: str | None = None, recycle: bool = False) -> None:
        self.code = code  # a stable word: "unsupported_format", "corrupt_source", "exception", ...
        self.message = message
        self.remote_traceback = remote_traceback  # the worker's traceback as text, or None where it adds nothing
        self.recycle = recycle  # the worker that it came from is replaced
        super().__init__(code, message)
        _note(self, "the worker's traceback", remote_traceback)

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"

    @property
    def public_message(self) -> str:
        """The code and the message; where the message was not written for a client, the code and a general sentence."""
        return f"[{self.code}] {_GENERAL_MESSAGES.get(self.code, self.message)}"


_GENERAL_MESSAGES = {
    "exception": "the processor failed unexpectedly",  # the message is the text of any exception
    "cannot_write": "the result could not be written",  # the message names a file of the server
}


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a worker process that died, by its exit and by what it had noted: hints, as it was not trusted."""

    pid: int | None  # None: there never was a process
    exit_code: int | None  # as from `subprocess`: negative is a signal; None: there was no process, or nobody knows
    reason: str | None  # why offloop killed it, or could not start it; None: it died by itself
    task_id: int | None  # that it had
    running: str | None  # the plugin whose operations were under way, their names, and how far they were
    progress: float | None  # of that, from 0 to 1
    memory_bytes: int | None  # its private memory when it last looked
    traceback: str  # the fault handler's, of every thread; empty where it wrote none
    stderr_tail: str  # the end of what it wrote to stdout and stderr since it was sent its last task
    recent_transitions: tuple[str, ...]  # its last steps through the table of states, oldest first
    tasks: int  # that it was given
    age_s: float | None  # since it was ready; None: it never was

    @property
    def signal(self) -> signals.Signals | int | None:
        """The signal that ended it, if one did."""
        return _signal_of(self.exit_code)

    @property
    def cause(self) -> str:
        """One line: how it ended, and what it was doing."""
        return f"{_end_of(self.exit_code, self.reason)}{_during(self.running)}"


class WorkerDied(OffloopError):
    """The worker process ended while it held the task, by itself or because it broke the protocol and was killed.

    What the worker wrote to stdout and stderr during the task is in `stderr_tail` and in the error's notes, and never in
    `str(error)`.
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
        self.exit_code = exit_code if exit_code is None or exit_code >= 0 else None  # set if it exited
        self.signal = _signal_of(exit_code)  # set if a signal ended it: `signal.Signals`, or a number that has no name there
        self.reason = reason  # why offloop killed it, or None where it died by itself
        self.running = running  # the operation that was under way, where known
        self.stderr_tail = stderr_tail  # the end of what it wrote to stdout and stderr during this task
        self.report = report  # all that is known of its end
        super().__init__(f"the worker {_end_of(exit_code, reason)}{_during(running)}")
        _note(self, "the worker's output ended with", stderr_tail)

    @property
    def public_message(self) -> str:
        """That the worker died, without the reason: it may name a file of the server."""
        return f"the worker process that had the task died{_during(self.running)}"


class TaskQuarantined(OffloopError):
    """The same source with the same pipeline has killed workers before; it is refused until a cool-down has passed."""

    def __init__(self, deaths: int, seconds_left: float) -> None:
        self.deaths = deaths  # workers that died of it
        self.seconds_left = seconds_left  # until it is let in again
        super().__init__(
            f"this source with this pipeline has killed {deaths} workers; it is refused for another {seconds_left:.0f} s"
        )


class MemoryLimitExceeded(OffloopError, MemoryError):
    """More memory was asked for than the pool may ever use, or than the system would give, or than came back in time."""

    def __init__(
        self,
        asked_bytes: int,
        limit_bytes: int,
        *,
        limited_by: str = "the pool's memory_limit",
        what: str = "shared memory",
        advice: str = "",
    ) -> None:
        self.asked_bytes = asked_bytes
        self.limit_bytes = limit_bytes
        self.limited_by = limited_by
        self.what = what  # "shared memory", or "memory" by the task's estimate
        text = f"{asked_bytes:,} bytes of {what} were needed, but {limited_by} is {limit_bytes:,} bytes"
        super().__init__(f"{text}; {advice}" if advice else text)


class SourceTooLarge(MemoryLimitExceeded):
    """A source that was received piece by piece went past the `max_bytes` that its receiver allowed."""

    def __init__(self, asked_bytes: int, limit_bytes: int) -> None:
        super().__init__(asked_bytes, limit_bytes, limited_by="the limit for this source (max_bytes)")


class PluginError(OffloopError):
    """A plugin cannot be used: it is broken, missing, or was refused when it was registered."""

    def __init__(
        self, plugin: str, reason: str, *, distribution: str | None = None, remote_traceback: str | None = None
    ) -> None:
        self.plugin = plugin
        self.distribution = distribution  # name and version, where it came from an installed distribution
        self.reason = reason
        self.remote_traceback = remote_traceback  # the worker's traceback as text; None: it was found by the server
        origin = f" (from {distribution})" if distribution else ""
        super().__init__(f"plugin {plugin!r}{origin}: {reason}")
        _note(self, "the worker's traceback", remote_traceback)

    @property
    def public_message(self) -> str:
        """The plugin's name, without the reason: it may be the text of any exception."""
        return f"the plugin {self.plugin!r} cannot be used"


class PoolClosed(OffloopError):
    """The pool is not open: not yet entered, closing, or closed. Tasks that it still held end with this too."""

    def __init__(self, what: str = "the pool is closed") -> None:
        super().__init__(f"{what}: use it inside `async with Pool() as pool`")

    @property
    def public_message(self) -> str:
        return "the service is not available at the moment"


class PoolMisused(OffloopError, RuntimeError):
    """The pool was used outside the process, the thread or the event loop that it was entered in; nothing was done. Or a pool
    cannot live here at all: on another system than Linux, in a program that cannot start workers, or in a process that was
    meant to be a worker."""

    def __init__(
        self, what: Literal["process", "thread", "event loop", "system", "program", "worker"], home: str, here: str
    ) -> None:
        self.what = what  # in which respect the caller was somewhere else
        self.home = home  # where the pool lives: a pid, a thread's name, a loop; or where it can live
        self.here = here  # where the call came from
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
    "system": "offloop runs on Linux only, and this system is {here}",
    "program": "workers cannot be started, because {here} is not a Python interpreter: let this program call "
    "offloop.freeze_support() first in its main, or give the path of an interpreter as Pool(executable=...)",
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


def _as_it_was(kind: type[OffloopError], args: tuple[Any, ...]) -> OffloopError:
    """A copy of an error: it has its sentence, and is not to write another."""
    base: Any = kind
    while base.__module__ != "builtins":  # of several, the one whose `__new__` makes it
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
