"""Support for frozen programs, and the check that this program can start workers.

`sys.executable` of a frozen program (PyInstaller) is the program itself and not a Python interpreter. Started as a worker, it
would run its `main` again, which enters a pool, which starts workers, and so on. So `freeze_support()` is the first call in its
`main`, and does not return in a process that was started as a worker.
"""

from __future__ import annotations

import os
import sys

from .errors import PoolMisused
from .wire.start import LOADING_MAIN_MODULE, START_MARK, WORKER_ARGUMENT

__all__ = ["check_program", "freeze_support", "is_frozen"]

_supported = False  # whether this program has called `freeze_support`; then its workers call it, too


def freeze_support() -> None:
    """Let a frozen program start itself as a worker. Call it first in the program's `main`.

        if __name__ == "__main__":
            offloop.freeze_support()
            main()

    In a process that a pool has started as a worker, it serves the pool and then exits. Elsewhere, and in a program that is not
    frozen, it has no effect.

    Raises:
        SystemExit: this process was a worker, and its pool has ended it.
    """
    global _supported
    _supported = True
    if not is_frozen():
        return
    import multiprocessing  # noqa: PLC0415 (few programs are frozen)

    multiprocessing.freeze_support()  # because multiprocessing's helper processes start this program, too
    if sys.argv[1:2] == [WORKER_ARGUMENT]:
        from .worker.main import run_from_command_line  # noqa: PLC0415 (for workers only)

        del sys.argv[1]
        run_from_command_line()
        sys.exit(0)


def is_frozen() -> bool:
    """Whether this program is frozen: `sys.executable` is not a Python interpreter."""
    return bool(getattr(sys, "frozen", False))


def check_program(*, has_executable: bool) -> None:
    """Refuse to start workers on another system than Linux, and in a program that would start itself endlessly.

    Args:
        has_executable: whether `Pool(executable=...)` names the interpreter.

    Raises:
        PoolMisused: workers cannot be started; the message says what to do instead.
    """
    if sys.platform != "linux":
        raise PoolMisused("system", "Linux", sys.platform)
    if os.environ.get(START_MARK) == LOADING_MAIN_MODULE:
        raise PoolMisused("main", "its server", "the main module of its server's program")
    if START_MARK in os.environ:
        raise PoolMisused("worker", "its server", sys.executable)
    if has_executable:
        return
    if is_frozen() and not _supported:
        raise PoolMisused("program", "a Python interpreter", sys.executable)
    if not sys.executable:
        raise PoolMisused("program", "a Python interpreter", "a program that embeds Python")
