"""A plugin whose operations fail in every way that a processor can, for tests of a pool or a service.

async with Pool(1, plugins=[FaultsPlugin]) as pool:
    with pytest.raises(WorkerDied):
        await pool.run(b"", [Exit(3)])
    with pytest.raises(WorkerDied):
        await pool.run(b"SIGKILL at mid-pixels", [Obey()])
"""

from __future__ import annotations

import os
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from ..operation import Header, Operation, Plugin
from ..sandbox import Needs

__all__ = [
    "Allocate",
    "CallBackBadly",
    "Echo",
    "Emit",
    "Exit",
    "FaultsPlugin",
    "Grow",
    "Hang",
    "HoldOn",
    "Inspect",
    "Kill",
    "KillOnce",
    "LeaveChild",
    "Noop",
    "Obey",
    "Preview",
    "PrintText",
    "Progress",
    "Raise",
    "ReturnNonsense",
    "Say",
    "Wait",
    "WriteStderr",
]

_TEMPORARY = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 (`tempfile` would load a dozen modules in each worker)


class Noop(Operation, frozen=True):
    """Return zero bytes."""


class Echo(Operation, frozen=True):
    """Return the unchanged source, copied into result memory."""


class Allocate(Operation, frozen=True):
    """Return `nbytes` bytes of value 1: from `allocate`, or from a growing `output` that is written in chunks."""

    nbytes: Annotated[int, Meta(ge=0)]
    chunk_nbytes: Annotated[int, Meta(ge=1)] | None = None


class Emit(Operation, frozen=True):
    """Hand over `outputs` outputs of `nbytes` bytes each, with the number of the output in every byte and in the info. Then end
    the task without a further output, return a last one, raise, end the process, or hang."""

    outputs: Annotated[int, Meta(ge=0)]
    nbytes: Annotated[int, Meta(ge=0)] = 1
    then: Literal["end", "return", "raise", "exit", "hang"] = "end"
    pause_s: Annotated[float, Meta(ge=0)] = 0.0  # seconds before each output


class Preview(Operation, frozen=True):
    """Hand over a preview of `nbytes` bytes of value 2, if there is a receiver. Return the unchanged source."""

    nbytes: Annotated[int, Meta(ge=0)] = 100
    previews: ClassVar[int] = 1


class Inspect(Operation, frozen=True):
    """Return the state of the worker's interpreter in the info: pid, imported modules, descriptors."""


class PrintText(Operation, frozen=True):
    """Print to stdout with Python and with descriptor 1. If `buffered`, leave the text in the buffers of Python and of C."""

    text: str
    buffered: bool = False


class WriteStderr(Operation, frozen=True):
    """Write `nbytes` bytes to stderr."""

    nbytes: Annotated[int, Meta(ge=0)]


class Raise(Operation, frozen=True):
    """Raise an ordinary exception, an exception that cannot be pickled, an exception whose text raises, SystemExit,
    MemoryError, or a `TaskFailed` with the code "refused"."""

    kind: Literal["ordinary", "unpicklable", "textless", "system_exit", "memory", "task_failed"] = "ordinary"


class ReturnNonsense(Operation, frozen=True):
    """Return an object that is not a payload."""


class Exit(Operation, frozen=True):
    """End the process at once with an exit code, without unwinding."""

    code: int = 1


class Kill(Operation, frozen=True):
    """Send a signal to the worker process."""

    signal: int


class KillOnce(Operation, frozen=True):
    """Create an empty file with the name `mark` and kill the process. Do nothing if the file exists."""

    mark: str


class Progress(Operation, frozen=True):
    """Report the progress, from 0 to 1."""

    fraction: float


class Grow(Operation, frozen=True):
    """Allocate private memory, and keep it after the task."""

    mebibytes: Annotated[int, Meta(ge=1)]


class Wait(Operation, frozen=True):
    """Wait for `seconds`, or until the task is cancelled."""

    seconds: float


class Hang(Operation, frozen=True):
    """Never return, and ignore a cancellation: sleep, loop in Python, or sleep in C with the GIL."""

    how: Literal["sleep", "spin", "hold_gil"] = "sleep"


class HoldOn(Operation, frozen=True):
    """Wait until a file with the name `until` exists, or the task is cancelled. Then return the unchanged source."""

    until: str


class Obey(Operation, frozen=True):
    """Carry out the order in the source's first line (see `offloop.testing.Order`), such as b"exit 42 at mid-pixels". Then
    return the unchanged source, if the worker still runs. Some orders need the workers of `offloop.testing.FaultyWorkers`."""


class Say(Operation, frozen=True):
    """Return a value that cannot be sent: invalid text in an error, nested info, info with invalid text, or too much info."""

    what: Literal["error", "nested info", "surrogate info", "long info"]


class CallBackBadly(Operation, frozen=True):
    """Register a cancel callback that raises, and stop when the task is cancelled."""


class LeaveChild(Operation, frozen=True):
    """Start a process that sleeps and keeps the worker's output open. Its pid is in the info."""


class FaultsPlugin(Plugin):
    """Plugin with an operation for each fault, for `Pool(plugins=[FaultsPlugin])`.

    Its sandbox lets it read /proc/self and its modules, and write into the directory for temporary files. `LeaveChild` needs a
    pool with `sandbox="off"`.
    """

    name = "faults"
    operations = (
        Noop,
        Echo,
        Emit,
        Preview,
        Allocate,
        Inspect,
        PrintText,
        WriteStderr,
        Raise,
        ReturnNonsense,
        Exit,
        Kill,
        KillOnce,
        Progress,
        Grow,
        Wait,
        Hang,
        HoldOn,
        Obey,
        Say,
        CallBackBadly,
        LeaveChild,
    )
    processor = "offloop.testing.faults_processor:FaultsProcessor"

    @property
    def needs(self) -> Needs:  # pyright: ignore[reportIncompatibleVariableOverride] (a property is allowed)
        """Files for `HoldOn` and `KillOnce`, and the descriptors for `Inspect`."""
        return Needs(read=("/proc/self",), write=(_TEMPORARY,), modules=True)

    def probe(self, data: memoryview) -> Header | None:
        """Recognize one format: the eight bytes "FAULTS!\\n"."""
        return Header(media_type="application/x-faults", width=1, height=1) if bytes(data[:8]) == b"FAULTS!\n" else None
