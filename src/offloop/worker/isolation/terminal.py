"""Detaches the worker from the server's terminal.

A worker is in a process group of its own, so a terminal's signals do not reach it. It stays in the server's session because of
the scheduler (see `priority`). On kernels that allow TIOCSTI, a process can type into its controlling terminal: code that has
taken over a worker could run commands in the shell that started the server. So the worker detaches the terminal before its
first message. Only a session leader can get a terminal back.
"""

from __future__ import annotations

import errno
import os

__all__ = ["detach_tty"]


def detach_tty() -> None:
    """Give up the controlling terminal, if there is one."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return  # no terminal, as in every container and service
    import fcntl  # noqa: PLC0415 (because few workers need these modules)
    import termios  # noqa: PLC0415

    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    except OSError as error:
        if error.errno != errno.ENOTTY:  # ENOTTY: /dev/tty is a file or another device, as in some sandboxes
            raise
    finally:
        os.close(terminal)
