"""Away from the server's terminal.

A worker is in a process group of its own, so a terminal's signals do not reach it, but in the server's session, for the
scheduler's sake (see `priority`). Who has a terminal can type into it, on kernels that allow it (TIOCSTI): code that has taken
over a worker would have the shell from which the server was started. So the worker gives it up before it is told anything, and
nobody but the leader of a session can get one back.
"""

from __future__ import annotations

import errno
import os

__all__ = ["detach_tty"]


def detach_tty() -> None:
    """Have no controlling terminal from now on."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return  # there is none, as in every container and service
    import fcntl  # noqa: PLC0415 (few need them)
    import termios  # noqa: PLC0415

    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    except OSError as error:
        if error.errno != errno.ENOTTY:  # that is a file or a device of that name, as in some sandboxes: none of ours
            raise
    finally:
        os.close(terminal)
