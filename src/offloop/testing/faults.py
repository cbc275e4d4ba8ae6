"""A plugin whose operations go wrong in every way that a processor can: for tests of what a pool, or a service, makes of it.

async with Pool(1, plugins=[FaultsPlugin]) as pool:
    with pytest.raises(WorkerDied):
        await pool.run(b"", [Exit(3)])
    with pytest.raises(WorkerDied):
        await pool.run(b"SIGKILL at reply byte 1", [Obey()])
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ..operation import Header, Operation, Plugin

__all__ = [
    "Allocate",
    "CallBackBadly",
    "Echo",
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
    "PrintText",
    "Progress",
    "Raise",
    "ReturnNonsense",
    "Say",
    "Wait",
    "WriteStderr",
]


class Noop(Operation, frozen=True):
    """Return nothing: the shortest task there is."""


class Echo(Operation, frozen=True):
    """Return the source as it came, through result memory."""


class Allocate(Operation, frozen=True):
    """Return so many bytes of value 1, from `allocate` in one piece or through a growing `output` in chunks."""

    nbytes: Annotated[int, Meta(ge=0)]
    chunk_nbytes: Annotated[int, Meta(ge=1)] | None = None


class Inspect(Operation, frozen=True):
    """Return, in the info, what the worker's interpreter looks like: pid, imported modules, descriptors."""


class PrintText(Operation, frozen=True):
    """Print to stdout, by Python and by descriptor 1; or leave the text in the buffers of Python and of C."""

    text: str
    buffered: bool = False


class WriteStderr(Operation, frozen=True):
    """Write so many bytes to stderr."""

    nbytes: Annotated[int, Meta(ge=0)]


class Raise(Operation, frozen=True):
    """Raise something: an ordinary exception, one that cannot be pickled, one whose text raises, SystemExit, MemoryError, or a
    `TaskFailed` with the code "refused"."""

    kind: Literal["ordinary", "unpicklable", "textless", "system_exit", "memory", "task_failed"] = "ordinary"


class ReturnNonsense(Operation, frozen=True):
    """Return what is no payload."""


class Exit(Operation, frozen=True):
    """End the process at once, without unwinding."""

    code: int = 1


class Kill(Operation, frozen=True):
    """Send itself a signal."""

    signal: int


class KillOnce(Operation, frozen=True):
    """Make an empty file of that name and kill the process; do nothing where the file is there already."""

    mark: str


class Progress(Operation, frozen=True):
    """Note how far it is, from 0 to 1."""

    fraction: float


class Grow(Operation, frozen=True):
    """Take so many mebibytes of private memory, and keep them."""

    mebibytes: Annotated[int, Meta(ge=1)]


class Wait(Operation, frozen=True):
    """Wait so long, and stop when told to."""

    seconds: float


class Hang(Operation, frozen=True):
    """Never return, and do not stop when told to: asleep, spinning in Python, or spinning in C with the GIL held."""

    how: Literal["sleep", "spin", "hold_gil"] = "sleep"


class HoldOn(Operation, frozen=True):
    """Keep the worker until there is a file of that name, or until told to stop; then return the source as it came."""

    until: str


class Obey(Operation, frozen=True):
    """Carry out the order in the source's first line (see `offloop.testing.Order`), such as b"exit 42 at mid-pixels", and
    return the whole source as it came, if it comes to that."""


class Say(Operation, frozen=True):
    """Say what cannot be sent: in an error's text, in nested info, in info with text that is none, or in too much info."""

    what: Literal["error", "nested info", "surrogate info", "long info"]


class CallBackBadly(Operation, frozen=True):
    """Register a callback that raises, and stop when told to all the same."""


class LeaveChild(Operation, frozen=True):
    """Start a process that sleeps and holds on to the worker's output; its pid is in the info."""


class FaultsPlugin(Plugin):
    """The plugin; give it to a pool as `plugins=[FaultsPlugin]`."""

    name = "faults"
    operations = (
        Noop,
        Echo,
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

    def probe(self, data: memoryview) -> Header | None:
        """Know one format: eight bytes "FAULTS!\\n"."""
        return Header(media_type="application/x-faults", width=1, height=1) if bytes(data[:8]) == b"FAULTS!\n" else None
